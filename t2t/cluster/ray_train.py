"""A round's training by Ray Train's workers, on the nodes of a cluster (`engine: ray`, `training.workers` above 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from t2t.cluster.connect import cluster, explained
from t2t.cluster.group import PATIENCE, Group, backend
from t2t.cluster.workers import Job, Report

if TYPE_CHECKING:
    from t2t.rounds import Rounds
    from t2t.students.dual_encoder import Student
    from t2t.training import Trained

# So often a worker, or its node, may be lost; the others then begin again together at the last snapshot.
FAILURES = 3


def fit_on_ray(rounds: Rounds, k: int, student: Student, report: Report) -> tuple[Student, Trained]:
    """Trains the student of round k on a cluster whose nodes share the work folder; returns the trained one.

    What the leader leaves is the whole of the result: a driver that dies meanwhile finds it, or the snapshot. The
    curve is reported when the training is over.
    """
    from t2t.students.checkpoint import load, read_config
    from t2t.training import Trained

    folder = rounds.round_folder(k) / "ray"
    trained = folder / "trained"
    if not trained.is_dir():
        job = Job.of(rounds, k, student, folder / "start")
        with cluster() as ray:
            from ray.train import FailureConfig, RunConfig, ScalingConfig
            from ray.train.torch import TorchConfig, TorchTrainer

            workers = rounds.config.training.workers
            gpu = ray.cluster_resources().get("GPU", 0) >= 1
            trainer = TorchTrainer(
                work_on,
                train_loop_config={"job": job.model_dump_json()},
                torch_config=TorchConfig(
                    backend=backend("cuda" if gpu else "cpu"), timeout_s=int(PATIENCE.total_seconds())
                ),
                scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpu),
                run_config=RunConfig(
                    name="train",
                    storage_path=str((folder / "results").absolute()),
                    failure_config=FailureConfig(max_failures=FAILURES),
                ),
            )
            try:
                trainer.fit()
            except Exception as error:  # its kinds differ between versions; what it wraps is what counts
                raise explained(error, f"Round {k}: training") from error
    facts = read_config(trained)
    curve = [(step, point) for step, point in facts["curve"]]
    for step, point in curve:
        report(step, point)
    result = Trained(facts["best_step"], facts["best_score"], curve, facts["seconds"])
    return load(trained, rounds.device), result


def work_on(config: dict[str, Any]) -> None:
    """What every worker does, in its own process on some node."""
    import ray.train
    import ray.train.torch

    job = Job.model_validate_json(config["job"])
    context = ray.train.get_context()
    group = Group(context.get_world_rank(), context.get_world_size())
    rounds, student = job.open(str(ray.train.torch.get_device()))
    trained = rounds.fit(job.round, student, group=group)
    if group.leads:
        facts = {"best_step": trained.best_step, "best_score": trained.best_score}
        student.save(job.start.parent / "trained", facts | {"curve": trained.curve, "seconds": trained.seconds})
