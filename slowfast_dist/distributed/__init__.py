"""The processes of a run: the Accelerator, collectives, rendezvous, heartbeat, launchers."""
