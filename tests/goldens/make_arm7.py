"""Writes the arm's goldens with Pinocchio: `python tests/goldens/make_arm7.py` (pin 4.1, in an environment of its own).

Pinocchio parses the same MJCF by itself and computes kinematics, Jacobians and dynamics with code of its own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pinocchio as pin

HERE = Path(__file__).resolve().parent
MODEL = HERE.parents[1] / "kinema" / "sim" / "panda.xml"


def main() -> None:
    model = pin.buildModelFromMJCF(str(MODEL))
    data, hand, rng = model.createData(), model.getFrameId("tcp"), np.random.default_rng(7)
    joints = rng.uniform(-np.pi, np.pi, (1000, model.nq))
    velocity, acceleration = rng.uniform(-2, 2, (2, 50, model.nq))
    position, rotation, jacobian, mass, bias, torque = [], [], [], [], [], []
    for q in joints:
        pin.framesForwardKinematics(model, data, q)
        position.append(data.oMf[hand].translation.copy())
        rotation.append(data.oMf[hand].rotation.copy())
    for q, v, a in zip(joints[:50], velocity, acceleration, strict=True):
        # LOCAL, Pinocchio's default, has the axes of the hand
        jacobian.append(pin.computeFrameJacobian(model, data, q, hand, pin.LOCAL_WORLD_ALIGNED).copy())
        whole = pin.crba(model, data, q)
        mass.append(np.triu(whole) + np.triu(whole, 1).T)
        bias.append(pin.nonLinearEffects(model, data, q, v).copy())
        torque.append(pin.rnea(model, data, q, v, a).copy())
    np.savez_compressed(
        HERE / "arm7.npz",
        joints=joints, position=position, rotation=rotation, jacobian=jacobian, velocity=velocity,
        acceleration=acceleration, mass=mass, bias=bias, torque=torque,
    )  # fmt: skip


if __name__ == "__main__":
    main()
