"""What a tab of the page shows, kept on the server, so that no late update can falsify it.

Gradio delivers what a handler returns whenever it is ready, in whatever order, and repeats the
last update of a stream when the stream ends. So handlers write to no component. They write here,
where an update that is not for what is shown any more is refused, and return a numbered snapshot of
everything. The page shows the snapshot with the highest number, whichever arrives last
(``static/page_state.js``).
"""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from rad3d.ui.components import module_script
from rad3d.ui.visitor import session_of

if TYPE_CHECKING:
    from rad3d.service.service import Service

Values = Mapping[str, Any]
"""Name of a component -> its value, or a ``gr.update``, as the browser takes it."""

Snapshot = dict[str, Any]
"""Everything that a tab shows at a moment: its ``serial`` and the ``values``."""

_SERIAL = itertools.count(time.time_ns() // 1000)  # above those of a server that ended before


class PageState:
    """The values that one browser tab shows in one tab of the page. Thread-safe.

    Attributes:
        subject: gives what the values are about, as :meth:`write` was told; it keeps nothing alive.
    """

    def __init__(self) -> None:
        self.subject: Callable[[], object] = lambda: None
        self._values: dict[str, Any] = {}
        self._asked: dict[str, float] = {}
        self._serial = 0
        self._closed = False
        self._lock = threading.Lock()

    @property
    def is_new(self) -> bool:
        """True while nothing was written."""
        return not self._serial

    def write(
        self,
        values: Values | Callable[[Values], Values],
        current: Callable[[], bool] = lambda: True,
        asked: float | None = None,
        subject: object = None,
    ) -> bool:
        """Show these values, all or none of them.

        Args:
            values: the values that change, or a function that makes them from those shown now.
            current: whether they are for what is shown; looked at in the same step. It must not
                write to a state.
            asked: when the person asked for them, see :meth:`now`; what was asked for later stays.
            subject: the new subject of the page, where that changes.

        Returns:
            False where they are not current; then nothing has changed.
        """
        with self._lock:
            now = self._values  # of which nothing is kept if the session ends in the next lines
            if self._closed or not current():
                return False
            if subject is not None:
                self.subject = weakref.ref(subject)
            self._serial = next(_SERIAL)
            when = self._serial if asked is None else asked
            for name, value in (values(now) if callable(values) else values).items():
                if when >= self._asked.get(name, when):
                    now[name], self._asked[name] = value, when
            return True

    @staticmethod
    def now() -> float:
        """Return the time as :meth:`write` counts it."""
        return next(_SERIAL)

    def snapshot(self) -> Snapshot:
        """Return everything that is shown now, with a number that grows with each change."""
        with self._lock:
            return {"serial": self._serial, "values": dict(self._values)}

    def close(self) -> None:
        """Forget everything, for good: the session has ended.

        Without the lock: a session may end while another's state is written to.
        """
        self._closed, self._values = True, {}


class PageHandlers:
    """Handlers that write to one page state of a tab's session.

    Args:
        service: has the sessions.
        name: name of the part of the session that holds the state.
    """

    def __init__(self, service: Service, name: str) -> None:
        self._service, self._name = service, name

    def page(self, request: gr.Request) -> PageState:
        """Return what the tab shows of this part of the page."""
        return session_of(self._service, request).part(self._name, PageState)

    def again(self, request: gr.Request) -> Snapshot:
        """Return the present snapshot."""
        return self.page(request).snapshot()


def page_state(
    elem_id: str, components: Mapping[str, Any], again: Callable[[gr.Request], Snapshot]
) -> gr.HTML:
    """Return the hidden component that takes snapshots and hands their values over.

    Value (output only): :meth:`PageState.snapshot`.

    Args:
        elem_id: id of the component.
        components: name -> what shows the value of this name.
        again: gives the present snapshot.
    """
    state = gr.HTML(
        html_template='<div class="r3-state"></div>',
        js_on_load=module_script("page_state.js", "props, watch, trigger"),
        names=list(components),
        apply_default_css=False,
        elem_id=elem_id,
    )
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    take = f"() => document.querySelector('#{elem_id} .r3-state').pageState.take()"
    state.select(None, None, list(components.values()), js=take, trigger_mode="multiple", **quiet)

    def newer(request: gr.Request, event: gr.EventData) -> dict[str, Any]:
        """The present snapshot, or nothing where the page shows it already."""
        snapshot = again(request)
        return gr.skip() if snapshot["serial"] == event.serial else snapshot

    state.submit(newer, None, state, queue=False, **quiet)
    return state
