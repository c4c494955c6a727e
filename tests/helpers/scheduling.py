"""Which of several processes of pytest-xdist runs which file of tests."""

from typing import Any

from xdist.scheduler import LoadFileScheduling


class FileScheduling(LoadFileScheduling):
    """As ``--dist loadfile``, and the session ends, too, where a process died.

    pytest-xdist 3.8 also puts the dead process's files that were done back into the queue. One that
    is given such a file has nothing to report and is given no more, and what stands behind it in
    the queue never runs. And one that is given a single test waits for a second one.
    """

    def remove_node(self, node: Any) -> str | None:
        """Hand the rest of its files to others. Returns the test during which it died, which is not
        run again; None where it had no more."""
        own = self.assigned_work.pop(node)
        rest = {scope: unit for scope, unit in own.items() if not all(unit.values())}
        if not rest:
            return None
        first = next(iter(rest.values()))
        died = next(test for test, is_done in first.items() if not is_done)
        first[died] = True
        self.workqueue.update(
            {scope: unit for scope, unit in rest.items() if not all(unit.values())}
        )
        for other in self.assigned_work:
            self._reschedule(other)
        return died

    def _reschedule(self, node: Any) -> None:
        super()._reschedule(node)
        while self.workqueue and not node.shutting_down and self._pending(node) < 2:
            self._assign_work_unit(node)
        if not self.workqueue and self._pending(node) < 2:
            node.shutdown()

    def _pending(self, node: Any) -> int:
        return self._pending_of(self.assigned_work[node])
