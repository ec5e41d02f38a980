"""A blocking call beside the event loop, that nobody has to wait for in the end."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")


async def in_thread(call: Callable[[], _Result]) -> _Result:
    """Its result or exception. A cancelled call is left to end by itself, and does not hold up the process' exit.

    `asyncio.to_thread` would: the loop joins its threads, so one hanging server would cost the seconds to a clean end.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_Result] = loop.create_future()

    def tell(result: _Result | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # the result of a call that raised nothing

    def work() -> None:
        result, error = None, None
        try:
            result = call()
        except BaseException as exc:  # noqa: BLE001 - handed to whoever awaits it
            error = exc
        try:
            loop.call_soon_threadsafe(tell, result, error)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    threading.Thread(target=work, name="warmtide-call", daemon=True).start()
    return await done
