"""A run that is killed with SIGKILL and resumed ends with the weights of one that was never killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lenvm.playground import POLICY_FOLDER

CONFIG = Path(__file__).parent / "conf" / "fit.yaml"
CHECKPOINTS = """
trainer:
  max_epochs: 4
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {dirpath: DIR, filename: last, every_n_train_steps: 3, enable_version_counter: false}
"""


def command(root: Path, train: Path, batching: str) -> list[str]:
    root.mkdir(exist_ok=True)
    (root / "checkpoints.yaml").write_text(CHECKPOINTS.replace("DIR", str(root / "checkpoints")))
    options = {
        "data.train": train,
        "data.tokenizer": POLICY_FOLDER,
        "data.cache_dir": train.parent / "cache",
        "data.batching": batching,
        "trainer.default_root_dir": root,
        "trainer.accumulate_grad_batches": 2,
    }
    words = ["fit", "--config", str(CONFIG), "--config", str(root / "checkpoints.yaml")]
    return [sys.executable, "-m", "lenvm", *words, *(f"--{k}={v}" for k, v in options.items())]


@pytest.mark.slow
@pytest.mark.parametrize("batching", ["shuffled", "bucketed"])
def test_a_killed_run_resumes_to_the_same_weights(batching: str, rollout_file: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(whole, rollout_file, batching), check=True, env=environment, capture_output=True)

    latest = killed / "checkpoints" / "last.ckpt"
    run = subprocess.Popen(
        command(killed, rollout_file, batching), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not latest.exists() and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    step = torch.load(latest, weights_only=False)["global_step"]
    assert not (killed / "model").exists()

    resume = [*command(killed, rollout_file, batching), "--ckpt_path", "last"]
    subprocess.run(resume, check=True, env=environment, capture_output=True)
    expected, got = (load_file(root / "model" / "model.safetensors") for root in (whole, killed))
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected), f"killed after step {step}"
