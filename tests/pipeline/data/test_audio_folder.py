"""`audio-folder`: every kind of WAV, lengths and rates, classes and speakers by name, and files that are broken."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from scipy.io import wavfile
from tests.shared_data import shared

from edgedl.core import audio
from edgedl.core.config import check
from edgedl.core.contract import AudioFrontEnd
from edgedl.core.errors import ConfigError, DataError
from edgedl.pipeline.data import AudioFolder, load_splits, normalize
from edgedl.pipeline.data.sound import fixed_length, read_wav, resampled

RATE = 8000
WAVE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(400) / RATE)


def wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    wavfile.write(file, rate, samples)
    return file.getvalue()


def pcm24(wave: np.ndarray, rate: int = RATE) -> bytes:
    """SciPy writes none, so by hand (RIFF, WAVE_FORMAT_PCM, little-endian)."""
    packed = b"".join(int(one).to_bytes(3, "little", signed=True) for one in np.round(wave * 2**23))
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 3 * rate, 3, 24)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(packed)) + packed
    return struct.pack("<4sI", b"RIFF", len(body)) + body


def fill(root: Path, *, n: int = 6, classes: tuple[str, ...] = ("low", "high"), rate: int = RATE) -> Path:
    """Tones of 300 and 1500 Hz in noise, by speakers a … f."""
    rng = np.random.default_rng(0)
    for hz, label in zip((300, 1500), classes, strict=False):
        (root / label).mkdir(parents=True)
        for k in range(n):
            tone = 0.3 * np.sin(2 * np.pi * hz * np.arange(rate // 2) / rate) + 0.02 * rng.standard_normal(rate // 2)
            (root / label / f"{'abcdef'[k % 6]}_{k}.wav").write_bytes(wav((tone * 32767).astype(np.int16), rate))
    return root


# --- files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (wav(np.round(WAVE * 128 + 128).astype(np.uint8)), 1 / 128),
        (wav(np.round(WAVE * 2**15).astype(np.int16)), 2**-15),
        (pcm24(WAVE), 2**-22),
        (wav(np.round(WAVE * 2**31).astype(np.int32)), 1e-6),
        (wav(WAVE.astype(np.float32)), 1e-7),
        (wav(WAVE), 1e-6),
    ],
    ids=["8", "16", "24", "32", "float", "double"],
)
def test_every_kind_of_sample(content: bytes, error: float):
    rate, found = read_wav(content)
    assert (rate, found.dtype) == (RATE, np.float32)
    np.testing.assert_allclose(found, WAVE, atol=error)


def test_stereo_is_mixed_down():
    _, found = read_wav(wav(np.stack([WAVE, np.zeros(400)], axis=1).astype(np.float32)))
    np.testing.assert_allclose(found, WAVE / 2, atol=1e-7)


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", wav((WAVE * 9000).astype(np.int16))[:500], wav(np.array([], np.int16)), wav(np.float32([np.nan]))],
    ids=["empty", "no wav", "cut", "no samples", "nan"],
)
def test_damage_is_one_error(content: bytes):
    with pytest.raises(ValueError, match=r"."):
        read_wav(content)


def test_resampling_keeps_a_tone():
    wave = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000).astype(np.float32)
    found = resampled(wave, 16000, RATE)
    assert len(found) == 8000
    expected = np.sin(2 * np.pi * 440 * np.arange(8000) / RATE)
    np.testing.assert_allclose(found[200:-200], expected[200:-200], atol=5e-3)


def test_lengths():
    wave = np.arange(1, 6, dtype=np.float32)
    cut = {align: fixed_length(wave, AudioFrontEnd(RATE, 3, align)).tolist() for align in ("start", "center")}
    assert cut == {"start": [1, 2, 3], "center": [2, 3, 4]}
    padded = {align: fixed_length(wave, AudioFrontEnd(RATE, 8, align)).tolist() for align in ("start", "center")}
    assert padded == {"start": [1, 2, 3, 4, 5, 0, 0, 0], "center": [0, 1, 2, 3, 4, 5, 0, 0]}


# --- folders -----------------------------------------------------------------------------------------------------


def test_features_by_class(tmp_path: Path):
    raw = AudioFolder(folder=fill(tmp_path / "data"), clip_s=0.5).load()
    assert raw.labels == ("high", "low")
    assert raw.input.audio is not None
    assert raw.input.shape == (raw.input.audio.frames, 40, 1) == (24, 40, 1)
    loudest = raw.examples.raw(np.arange(12))[..., 0].mean(axis=1).argmax(axis=1)
    assert len(set(loudest[:6])) == len(set(loudest[6:])) == 1
    assert loudest[0] > loudest[6]
    _, wave = read_wav((tmp_path / "data" / "high" / "a_0.wav").read_bytes())
    np.testing.assert_array_equal(audio.features(raw.input.audio, wave[None]), raw.examples.raw(np.array([0]))[..., 0])


def test_other_features_and_layouts(tmp_path: Path):
    folder = fill(tmp_path / "data")
    shapes = {
        (features, layout): AudioFolder(folder=folder, features=features, layout=layout).load().input.shape
        for features in ("mfcc", "none")
        for layout in ("map", "sequence")
    }
    assert shapes == {
        ("mfcc", "map"): (49, 13, 1),
        ("mfcc", "sequence"): (49, 13),
        ("none", "map"): (8000, 1),
        ("none", "sequence"): (8000, 1),
    }


def test_a_zip_is_read_in_place_and_is_the_same(tmp_path: Path):
    folder = fill(tmp_path / "data")
    with ZipFile(tmp_path / "data.zip", "w") as packed:
        for path in sorted(folder.rglob("*.wav")):
            packed.write(path, path.relative_to(folder))
        packed.writestr("__MACOSX/low/._a_0.wav", b"x")
    both = [AudioFolder(folder=one).load() for one in (folder, tmp_path / "data.zip")]
    assert both[0].labels == both[1].labels
    assert both[0].examples.fingerprint() == both[1].examples.fingerprint()


def test_no_speaker_is_in_two_parts(tmp_path: Path):
    source = AudioFolder(folder=fill(tmp_path / "data", n=24), pattern="(?P<group>[a-f])_", features="none")
    raw = source.load()
    assert raw.groups is not None
    splits = load_splits(source, source.split, 3)
    known = {
        wave.tobytes(): int(group) for wave, group in zip(raw.examples.raw(np.arange(48)), raw.groups, strict=True)
    }
    parts = (splits.train, splits.validation, splits.test)
    speakers = [{known[wave.tobytes()] for wave in part.raw(np.arange(len(part)))} for part in parts]
    assert sum(map(len, speakers)) == len(set().union(*speakers)) == 6
    assert sum(splits.record.counts.values()) == 48
    assert splits.record == load_splits(source, source.split, 3).record


def test_classes_from_names(tmp_path: Path):
    fill(tmp_path / "data", classes=("x", "y"))
    for path in (tmp_path / "data").rglob("*.wav"):
        path.rename(tmp_path / "data" / f"{path.parent.name}-{path.name}")
    raw = AudioFolder(folder=tmp_path / "data", pattern="(?P<label>[xy])-(?P<group>[a-f])").load()
    assert raw.labels == ("x", "y")
    with pytest.raises(DataError, match=r"of no class.*pattern"):
        AudioFolder(folder=tmp_path / "data", pattern="(?P<label>[zw])-").load()
    with pytest.raises(DataError, match=r"of no class: required a folder for each class.*\(\?P<label>"):
        AudioFolder(folder=tmp_path / "data").load()


def test_rates_that_differ(tmp_path: Path):
    fill(tmp_path / "data")
    fill(tmp_path / "data" / "x", classes=("other",), rate=16000, n=1)
    with pytest.raises(DataError, match=r"differ in sampling rate.*data\.sample_rate_hz.*12 × 8000 Hz, 1 × 16000"):
        AudioFolder(folder=tmp_path / "data").load()
    raw = AudioFolder(folder=tmp_path / "data", sample_rate_hz=RATE, clip_s=0.5).load()
    low, resampled_low = raw.examples.raw(np.array([6, 12]))[..., 0].mean(axis=1)
    assert abs(int(low.argmax()) - int(resampled_low.argmax())) <= 1


def test_broken_files_are_named_and_can_be_left_out(tmp_path: Path):
    folder = fill(tmp_path / "data")
    (folder / "low" / "z.wav").write_bytes(b"RIFF")
    with pytest.raises(DataError, match=r"cannot read sound .*z\.wav.*skip_bad: true"):
        AudioFolder(folder=folder).load()
    raw = AudioFolder(folder=folder, skip_bad=True).load()
    assert len(raw.examples) == 12
    assert "z.wav" in raw.skipped[0]


def test_what_is_no_data(tmp_path: Path):
    with pytest.raises(DataError, match="does not exist"):
        AudioFolder(folder=tmp_path / "none").load()
    (tmp_path / "song.mp3").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no WAV files.*received 1 × \.mp3.*ffmpeg"):
        AudioFolder(folder=tmp_path).load()
    with pytest.raises(DataError, match="one class only"):
        AudioFolder(folder=fill(tmp_path / "one", classes=("only",))).load()


def test_keys_that_cannot_be(tmp_path: Path):
    folder = fill(tmp_path / "data")
    for keys, message in [
        ({"high_hz": 5000}, "half the sampling rate"),
        ({"features": "mfcc", "coefficients": 50}, "as many coefficients as mel_bins"),
        ({"clip_s": 0.01}, "a window from 2 samples to the clip's 80"),
    ]:
        with pytest.raises(ConfigError, match=message):
            AudioFolder(folder=folder, **keys).load()
    for pattern in ("(", "plain"):
        with pytest.raises(ConfigError, match="a regular expression"):
            check(AudioFolder, {"folder": str(folder), "pattern": pattern}, source="x")


# --- augmentation ------------------------------------------------------------------------------------------------


@pytest.mark.tensorflow
def test_augmented_sounds(tmp_path: Path):
    import tensorflow as tf

    from edgedl.pipeline.data.augment import Augment, Background, SpecAugment, augment_batch, check_augment, noise_bank

    source = AudioFolder(folder=fill(tmp_path / "data"), clip_s=0.5)
    splits = load_splits(source, source.split, 0)
    contract = splits.input
    assert contract.audio is not None
    clean = normalize(splits.train.raw(np.arange(6)), contract)

    def changed(augment: Augment) -> np.ndarray:
        check_augment(augment, contract)

        @tf.function
        def change(sounds: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
            targets = tf.zeros([6, 2])
            return augment_batch(sounds, targets, None, augment=augment, contract=contract, seed=seed)[0]

        return change(tf.constant(clean), tf.constant([1, 2])).numpy()

    moved = changed(Augment(time_shift=0.5))
    mean, std = contract.scaling()
    assert mean.shape == (40, 1)
    silence = (np.log(contract.audio.log_offset) - mean) / std
    shifts = []
    for before, after in zip(clean, moved, strict=True):
        fits = [
            s
            for s in range(-12, 13)
            if np.array_equal(np.roll(before, s, axis=0)[max(s, 0) : 24 + min(s, 0)], after[max(s, 0) : 24 + min(s, 0)])
        ]
        assert len(fits) == 1
        shifts.append(fits[0])
        outside = after[: fits[0]] if fits[0] > 0 else after[24 + fits[0] :]
        np.testing.assert_allclose(outside, np.broadcast_to(silence, outside.shape), rtol=1e-4)
    assert len(set(shifts)) > 2

    masked = changed(Augment(spec_augment=SpecAugment(time_masks=1, frequency_masks=1)))
    assert ((masked == clean) | (masked == 0)).all()
    assert 0 < (masked == 0).mean() < 0.4

    # What is mixed in the bands is what features of the mixed sound are, on average over frames.
    noisy = changed(Augment(background=Background(snr_db=(0, 0), share=1.0)))
    powers = [np.exp(one * std + mean).sum(axis=(1, 2, 3)) for one in (clean, noisy)]
    np.testing.assert_allclose(powers[1] / powers[0], 2.0, rtol=0.02)
    louder = changed(Augment(gain_db=20.0))
    decibels = [10 * np.log10(np.exp(one * std + mean).max(axis=(1, 2, 3))) for one in (clean, louder)]
    gains = decibels[1] - decibels[0]
    assert (np.abs(gains) < 20).all()
    assert np.ptp(gains) > 5
    bank = noise_bank(Background(), contract)
    quiet = noise_bank(Background(folder=fill(tmp_path / "noise")), contract)
    assert bank.shape[1] == quiet.shape[1] == 40
    tone = 0.3 * np.sin(2 * np.pi * 300 * np.arange(4000) / RATE)
    noise = np.random.default_rng(5).standard_normal(4000) * 0.1
    separate = audio.mel_power(contract.audio, tone[None]) + audio.mel_power(contract.audio, noise[None])
    together = audio.mel_power(contract.audio, (tone + noise)[None])
    np.testing.assert_allclose(separate.sum(axis=1), together.sum(axis=1), rtol=0.35)


def test_augmentation_that_does_not_fit(tmp_path: Path):
    from edgedl.core.contract import InputContract
    from edgedl.pipeline.data.augment import Augment, Background, SpecAugment, check_augment

    with pytest.raises(ConfigError, match=r"augment\.time_shift is for sounds"):
        check_augment(Augment(time_shift=0.1), InputContract("image", (8, 8, 1), content="image"))
    with pytest.raises(ConfigError, match=r"augment\.noise is for numbers"):
        check_augment(Augment(noise=0.1), InputContract("tokens", (8,), "int32", content="text"))
    folder = fill(tmp_path / "data")
    mfcc = AudioFolder(folder=folder, features="mfcc").load().input
    with pytest.raises(ConfigError, match=r"MFCC.*log-mel"):
        check_augment(Augment(background=Background()), mfcc)
    with pytest.raises(ConfigError, match="masks features"):
        check_augment(Augment(spec_augment=SpecAugment()), AudioFolder(folder=folder, features="none").load().input)


def test_spoken_digits_as_published():
    source = AudioFolder(folder=shared("fsdd/fsdd_dev.zip"), pattern=r"(?P<label>\d)_(?P<group>[a-z]+)_\d+")
    splits = load_splits(source, source.split, 1)
    assert splits.labels == tuple("0123456789")
    assert splits.record.counts == {"train": 1300, "validation": 200, "test": 500}
