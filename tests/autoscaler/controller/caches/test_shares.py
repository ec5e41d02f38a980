"""Models on a share: a claim that nobody mounted yet is waited for, and said."""

from typing import Any

URI = "pvc://share/alpha"


async def test_a_claim_that_is_not_mounted_is_said_and_once_it_is_the_model_comes(story: Any) -> None:
    async with story.played("gpu-0", "gpu-1"):
        await story.cache("alpha", URI, source={"allowUnverified": False}, places={"min": 2})
        await story.town.after(30)
        condition, status = await story.condition("alpha", "Resolved"), await story.status("alpha")
        source = story.model("alpha", model=b"weights" * 1000)
        story.sum_up(source)
        (story.folder / "claims").mkdir()
        (story.folder / "source").rename(story.folder / "claims" / "share")
        await story.town.after(60)
        after = await story.status("alpha")

    assert (condition["status"], condition["reason"]) == ("False", "SourceUnavailable")
    assert "claim share is not mounted" in condition["message"]
    assert status["retryAt"] > condition["lastTransitionTime"]
    assert story.asked == [URI, URI]
    assert (after["reason"], after["summary"], after["resolved"]["unsworn"]) == ("Ready", "2/2", 0)
    held = {(story.tree(node, URI) / "model.safetensors").read_bytes() for node in ("gpu-0", "gpu-1")}
    assert held == {b"weights" * 1000}
