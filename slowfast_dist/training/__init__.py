"""The loop: from settings to a trained, evaluated and recorded model."""
