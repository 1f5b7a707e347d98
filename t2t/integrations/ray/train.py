"""A round's training by Ray Train's workers, on the nodes of a cluster (`engine: ray`, `training.workers` above 1)."""

from __future__ import annotations

from typing import Any

from t2t.integrations.ray.connect import cluster, explained
from t2t.students.base import Student
from t2t.students.checkpoint import load, read_config, save
from t2t.training.group import PATIENCE, Group, backend
from t2t.training.job import Report, TrainJob, run
from t2t.training.loop import Trained

# So often a worker, or its node, may be lost; the others then begin again together at the last snapshot.
FAILURES = 3


def train_on_ray(job: TrainJob, student: Student, device: str, report: Report) -> tuple[Student, Trained]:
    """Trains a student on a cluster whose nodes share the work folder; returns the trained one.

    What the leader leaves is the whole of the result: a driver that dies meanwhile finds it, or the snapshot. The
    curve is reported when the training is over. The caller removes `job.files.ray` once it has saved the student.
    """
    folder = job.files.ray
    trained = folder / "trained"
    if not trained.is_dir():
        save(student, folder / "start")
        with cluster() as ray:
            from ray.train import FailureConfig, RunConfig, ScalingConfig
            from ray.train.torch import TorchConfig, TorchTrainer

            gpu = ray.cluster_resources().get("GPU", 0) >= 1
            trainer = TorchTrainer(
                work_on,
                train_loop_config={"job": job.model_dump_json()},
                torch_config=TorchConfig(
                    backend=backend("cuda" if gpu else "cpu"), timeout_s=int(PATIENCE.total_seconds())
                ),
                scaling_config=ScalingConfig(num_workers=job.recipe.workers, use_gpu=gpu),
                run_config=RunConfig(
                    name="train",
                    storage_path=str(folder / "results"),
                    failure_config=FailureConfig(max_failures=FAILURES),
                ),
            )
            try:
                trainer.fit()
            except Exception as error:  # its kinds differ between versions; what it wraps is what counts
                raise explained(error, job.title) from error
    facts = read_config(trained)
    curve = [(step, point) for step, point in facts["curve"]]
    for step, point in curve:
        report(step, point)
    found = Trained(facts["best_step"], facts["best_score"], curve, facts["seconds"], tuple(facts.get("stand_in", ())))
    return load(trained, device), found


def work_on(config: dict[str, Any]) -> None:
    """What every worker does, in its own process on some node."""
    import ray.train
    import ray.train.torch

    job = TrainJob.model_validate_json(config["job"])
    context = ray.train.get_context()
    group = Group(context.get_world_rank(), context.get_world_size())
    folder = job.files.ray
    student = load(folder / "start", str(ray.train.torch.get_device()))
    trained = run(job, student, group=group)
    if group.leads:
        facts: dict[str, Any] = {"best_step": trained.best_step, "best_score": trained.best_score}
        facts |= {"stand_in": trained.stand_in} if trained.stand_in else {}
        save(student, folder / "trained", facts | {"curve": trained.curve, "seconds": trained.seconds})
