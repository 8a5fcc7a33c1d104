"""An attack from Settings: data and checkpoint in, adversarial images and what they cost out."""

from medr1.attack.run import run_attack
from medr1.attack.settings import AttackSettings
from medr1.attack.stage import Progress
from medr1.data.convert import choose
from medr1.engines.transformers import TransformersEngine
from medr1.flows.engines import as_trained
from medr1.records import read_samples
from medr1.results.attacked import Grid


def attack(settings: AttackSettings, progress: Progress = lambda what, done, total: None) -> Grid:
    """What `grid.json` holds; the run with its images is in `settings.out`.

    Called again, it goes on where it stopped, or changes nothing. Raises `MedR1Error` for what cannot be attacked.
    """
    settings = as_trained(settings)
    job = settings.job()
    samples = choose(list(read_samples(settings.data)), settings.limit, settings.seed)
    train_samples = None if settings.train_data is None else list(read_samples(settings.train_data))
    engine = TransformersEngine(
        settings.model, device=settings.chosen_device, dtype=settings.dtype, batch_size=settings.batch_size
    )
    return run_attack(job, samples, engine, train_samples=train_samples, progress=progress)
