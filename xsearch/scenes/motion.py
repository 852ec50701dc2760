"""IMU recordings of a person in a scene; the motion depends on the place, never on the subject.

One function per place adds linear acceleration (m/s^2) and rotation rate (rad/s) in a level frame: x forward,
y left, z up. People walk at 1.5 to 2.2 steps a second and jog at 2.5 to 3, with accelerations of the trunk of
about 2 to 4 and 8 to 15 m/s^2. Sand damps the impact of a step, pavement does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from xsearch.scenes.world import DURATION_S, Scene

__all__ = ["render", "rotation"]

Wave = NDArray[np.float64]

STREAM = 22  # random stream of a scene that this module draws from
GRAVITY = 9.81  # m/s^2
TILT = np.radians(35)  # maximum deviation of a worn sensor from its nominal orientation
TAU = 2 * np.pi


@dataclass(slots=True, eq=False)
class Body:
    """A recording under construction: t [n] s, move [3, n] m/s^2, turn [3, n] rad/s, in the level frame."""

    rng: np.random.Generator
    t: Wave
    move: Wave = field(init=False)
    turn: Wave = field(init=False)

    def __post_init__(self) -> None:
        self.move = np.zeros((3, len(self.t)))
        self.turn = np.zeros((3, len(self.t)))

    def draw(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def wave(self, f_hz: float, level: float) -> Wave:
        """A sine of random phase."""
        return level * np.sin(TAU * f_hz * self.t + self.draw(0, TAU))

    def drift(self, knots_hz: float) -> Wave:
        """A slow random curve in 0..1 with about `knots_hz` knots a second."""
        seconds = float(self.t[-1])
        knots = max(2, int(seconds * knots_hz) + 2)
        return np.interp(self.t, np.linspace(0, seconds, knots), self.rng.random(knots))

    def shake(self, level: float, smooth: int = 1) -> Wave:
        """Noise of rms `level` on three axes, [3, n], smoothed by a running mean over `smooth` samples."""
        noise = self.rng.standard_normal((3, len(self.t) + smooth))
        if smooth > 1:
            total = np.cumsum(noise, axis=1)
            noise = (total[:, smooth:] - total[:, :-smooth]) / np.sqrt(smooth)
        return level * noise[:, : len(self.t)]

    def knock(self, at_s: float, size: float, ring_hz: float, decay_s: float, axis: int = 2) -> None:
        """Add an impact on one axis: a decaying oscillation."""
        i = int(np.searchsorted(self.t, at_s))
        t = self.t[i : i + int(5 * decay_s / (self.t[1] - self.t[0]))] - at_s
        self.move[axis, i : i + len(t)] += size * np.cos(TAU * ring_hz * t) * np.exp(-t / decay_s)


def gait(body: Body, steps_hz: float, bounce: float, sway: float, roll: float, lilt: float = 0.05) -> Wave:
    """Add steps: the trunk bounces at the step rate, sways and rolls at half. Returns the phase in steps."""
    steps = np.cumsum(steps_hz * (1 + lilt * (body.drift(1.5) - 0.5)))
    steps = steps * (body.t[1] - body.t[0]) + body.draw(0, 2)
    angle = TAU * steps
    second = body.draw(0.2, 0.45)  # second harmonic: asymmetric steps
    body.move[2] += bounce * (np.cos(angle) + second * np.cos(2 * angle + body.draw(-0.6, 0.6)))
    body.move[0] += 0.5 * bounce * np.sin(angle + body.draw(-0.5, 0.5))
    body.move[1] += sway * np.sin(angle / 2)
    body.turn[0] += roll * np.sin(angle / 2 + body.draw(-0.5, 0.5))
    body.turn[1] += 0.6 * roll * np.sin(angle + body.draw(-0.5, 0.5))
    body.turn[2] += 0.9 * roll * np.cos(angle / 2 + body.draw(-0.5, 0.5))
    return steps


def footfalls(body: Body, steps: Wave) -> Wave:
    """The times at which a step is completed."""
    return body.t[1:][np.diff(np.floor(steps)) > 0]


def beach(body: Body) -> None:
    """Slow walking on sand: no hard impacts, rolling ankles."""
    steps = gait(body, body.draw(1.2, 1.6), body.draw(1.0, 1.7), body.draw(0.9, 1.6), body.draw(0.45, 0.8))
    for at in footfalls(body, steps):
        body.knock(at, body.draw(0.3, 0.8), body.draw(5, 8), 0.06)
    body.turn[0] += 0.5 * (body.drift(3) - 0.5)
    body.move += body.shake(0.4, 20)


def forest(body: Body) -> None:
    """Hiking on uneven ground: steps of varying length and strength, with stumbles."""
    steps = gait(
        body, body.draw(1.5, 1.9), body.draw(1.6, 2.4), body.draw(0.8, 1.4), body.draw(0.4, 0.7), 0.5
    )
    body.move *= 0.5 + body.drift(2)
    for at in footfalls(body, steps):
        body.knock(at + body.draw(-0.05, 0.05), body.draw(0.5, 5), body.draw(10, 20), 0.03)
    for at in body.rng.uniform(0.2, body.t[-1], int(body.rng.integers(1, 4))):
        bump = np.exp(-(((body.t - at) / 0.15) ** 2))
        body.move[:2] += body.rng.uniform(-4, 4, (2, 1)) * bump
        body.turn += body.rng.uniform(-1.5, 1.5, (3, 1)) * bump
    body.move += body.shake(0.5, 8)


def street(body: Body) -> None:
    """Brisk, even walking on pavement, sometimes with a stop."""
    steps = gait(
        body, body.draw(1.85, 2.2), body.draw(2.0, 3.0), body.draw(0.5, 0.9), body.draw(0.25, 0.45), 0.02
    )
    strike, ring = body.draw(5, 9), body.draw(25, 40)
    for at in footfalls(body, steps):
        body.knock(at, strike * body.draw(0.85, 1.15), ring, 0.02)
        body.knock(at, 0.4 * strike, ring, 0.02, axis=0)
    if body.rng.random() < 0.35:
        stop = body.draw(0.5, 3.5)
        still = np.clip(np.abs(body.t - stop - 0.5) * 3 - 1.5, 0.03, 1)  # standing for about a second
        body.move *= still
        body.turn *= still
    body.move += body.shake(0.15)


def field_(body: Body) -> None:
    """Jogging on grass: a flight phase, large bounces, damped impacts."""
    steps = gait(body, body.draw(2.5, 3.0), body.draw(6, 10), body.draw(1.5, 2.5), body.draw(0.8, 1.4))
    thud = body.draw(5, 10)
    for at in footfalls(body, steps):
        body.knock(at, thud * body.draw(0.7, 1.3), body.draw(12, 18), 0.035)
    body.move += body.shake(0.8, 4)


def room(body: Body) -> None:
    """Sitting: breathing, occasional gestures, sometimes typing."""
    breath = body.draw(0.2, 0.35)
    body.move[0] += body.wave(breath, body.draw(0.02, 0.06))
    body.turn[1] += body.wave(breath, body.draw(0.005, 0.02))
    for at in body.rng.uniform(0, body.t[-1], int(body.rng.integers(0, 4))):
        bump = np.exp(-(((body.t - at) / body.draw(0.1, 0.3)) ** 2))
        body.move += body.rng.uniform(-0.6, 0.6, (3, 1)) * bump
        body.turn += body.rng.uniform(-0.5, 0.5, (3, 1)) * bump
    if body.rng.random() < 0.5:
        for at in body.rng.uniform(0, body.t[-1], int(body.draw(8, 30))):
            body.knock(at, body.draw(0.05, 0.3), body.draw(30, 50), 0.01)
    body.move += body.shake(0.02)


def mountain(body: Body) -> None:
    """Steep climbing: slow strong steps with a push upwards and a lean, heavy breathing."""
    steps = gait(
        body, body.draw(0.75, 1.1), body.draw(1.8, 3.0), body.draw(0.6, 1.1), body.draw(0.3, 0.5), 0.15
    )
    push = np.clip(np.cos(TAU * (steps - 0.3)), 0, 1) ** 3
    body.move[2] += body.draw(2, 4) * (push - push.mean())
    body.turn[1] += body.draw(0.3, 0.7) * np.sin(TAU * steps) * push
    breath = body.draw(0.5, 0.8)
    body.move[0] += body.wave(breath, body.draw(0.3, 0.6))
    body.turn[1] += body.wave(breath, body.draw(0.08, 0.2))
    for at in footfalls(body, steps):
        body.knock(at, body.draw(2, 5), body.draw(18, 30), 0.02)
    body.move += body.shake(0.25, 4)


def road(body: Body) -> None:
    """Driving: engine and road vibration, acceleration and braking, a curve, bumps."""
    engine = body.draw(25, 60)  # firing frequency at 750 to 1800 rpm
    for axis in range(3):
        body.move[axis] += body.wave(engine, body.draw(0.1, 0.35)) + body.wave(
            2 * engine, body.draw(0.03, 0.15)
        )
    body.move += body.shake(body.draw(0.2, 0.5), 6)
    body.move[0] += body.draw(1, 3) * (body.drift(0.4) - 0.5)
    curve = body.draw(-1, 1) * body.drift(0.4)
    body.move[1] += 2 * curve
    body.turn[2] += 0.15 * curve  # v * w = a at about 13 m/s
    body.move[2] += body.wave(body.draw(1.1, 1.7), body.draw(0.1, 0.4))  # suspension
    for at in body.rng.uniform(0, body.t[-1], int(body.rng.integers(1, 6))):
        body.knock(at, body.draw(0.8, 3), body.draw(8, 14), 0.08)
        body.turn[1] += body.draw(0.03, 0.12) * np.exp(-(((body.t - at) / 0.1) ** 2))


def harbour(body: Body) -> None:
    """Standing on a moored boat: slow roll and pitch, with the shift of gravity, and diesel vibration."""
    for axis, reach in ((0, body.draw(0.06, 0.16)), (1, body.draw(0.03, 0.09))):  # radians of roll and pitch
        f = body.draw(0.2, 0.4)
        phase = TAU * f * body.t + body.draw(0, TAU)
        lean = reach * np.sin(phase)
        body.turn[axis] += reach * TAU * f * np.cos(phase)
        body.move[1 - axis] += (1 if axis == 0 else -1) * GRAVITY * np.sin(lean)
    body.move[2] += body.wave(body.draw(0.2, 0.4), body.draw(0.15, 0.5))
    body.turn += body.shake(0.02, 60)  # balancing
    body.move += body.shake(0.1, 40) + body.shake(0.03)
    body.move[2] += body.wave(body.draw(12, 25), body.draw(0.0, 0.06))


PLACES: dict[str, Callable[[Body], None]] = {
    "beach": beach,
    "forest": forest,
    "street": street,
    "field": field_,
    "room": room,
    "mountain": mountain,
    "road": road,
    "harbour": harbour,
}


def rotation(axis: NDArray[np.float64], angle: float) -> Wave:
    """Rotation matrix float64 [3, 3] by `angle` radians about `axis` [3] (Rodrigues' formula)."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def render(scene: Scene, *, rate_hz: float = 400.0, duration_s: float = DURATION_S) -> NDArray[np.float32]:
    """The IMU recording of a scene: float32 [6, rate_hz * duration_s], deterministic.

    Rows 0..2 are specific force in m/s^2 (at rest +9.81 upwards), rows 3..5 rotation rate in rad/s; x
    forward, y left, z up, rotated by up to 35 degrees. `noise` determines the sensor's noise and bias.
    """
    rng = scene.rng(STREAM)
    body = Body(rng, np.arange(round(rate_hz * duration_s)) / rate_hz)
    PLACES[scene.place](body)
    body.move[2] += GRAVITY
    worn = rotation(rng.standard_normal(3), rng.uniform(0, TILT))
    out = np.concatenate([worn @ body.move, worn @ body.turn])
    # Consumer MEMS sensors: some 0.02 to 0.1 m/s^2 and 0.002 to 0.01 rad/s of noise, biases about twice that.
    scale = np.repeat([0.02 + 0.08 * scene.noise, 0.002 + 0.008 * scene.noise], 3)[:, None]
    out += scale * (rng.standard_normal(out.shape) + 2 * rng.standard_normal((6, 1)))
    return out.astype(np.float32)
