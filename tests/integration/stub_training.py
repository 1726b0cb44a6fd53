"""A training script on the base install: nothing but grpcio and protobuf. Run by test_stub_compatibility.py.

stub_training.py HOST:PORT DIRECTORY prints the id of its run, once everything of it has arrived.
"""

from __future__ import annotations

import sys

import tracker_client as tracker


def main(server: str, directory: str) -> None:
    """A run with all that a run can have."""
    with tracker.init(
        "base-install",
        config={"lr": 0.1, "layers": [64, "relu"], "none": None},
        tags=["base"],
        server=server,
        directory=directory,
        on_error="raise",
    ) as run:
        for step in range(1000):
            run.log({"loss": 1 / (step + 1), "grad": {"norm": float(step)}}, step=step)
        run.config.update({"late": True})
        run.log_artifact("model", "s3://models/base.pt")
        run.summary["accuracy"] = 0.9
    assert run.finish(), "not everything has arrived"
    with tracker.TrackerClient(server) as client:
        answer = client.get_run(run.id, write_tokens=[run.write_token])
        assert {metric.name: metric.count for metric in answer.metrics if metric.count > 1} == {
            "loss": 1000,
            "grad/norm": 1000,
        }, answer.metrics
        assert answer.completeness.complete, answer.completeness
        assert tracker.from_config(answer.run.config)["late"] is True
    sys.stdout.write(run.id)


if __name__ == "__main__":
    main(*sys.argv[1:])
