"""Writes torques of robosuite's operational-space formulas: `python tests/goldens/make_arm7_osc.py`.

Needs pin 4.1 and robosuite 1.5.2 without its dependencies (`pip install --no-deps robosuite==1.5.2`): only its file
of formulas is loaded, with stand-ins for what that file imports and does not use here. Orientation errors are zero,
because robosuite's is half a sum of cross products, sin θ instead of θ.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pinocchio as pin

HERE = Path(__file__).resolve().parent
MODEL = HERE.parents[1] / "kinema" / "sim" / "panda.xml"
READY = np.array([0, -np.pi / 4, 0, -3 * np.pi / 4, 0, np.pi / 2, np.pi / 4])
KP = 10.0  # robosuite's gain in the null space, used for the hand as well


def formulas() -> Any:
    folder = Path(importlib.util.find_spec("robosuite").submodule_search_locations[0])
    for name in ("robosuite", "robosuite.utils", "robosuite.utils.transform_utils", "robosuite.utils.numba"):
        sys.modules[name] = ModuleType(name)
    sys.modules["robosuite.utils"].transform_utils = sys.modules["robosuite.utils.transform_utils"]
    sys.modules["robosuite.utils.numba"].jit_decorator = lambda function: function
    spec = importlib.util.spec_from_file_location("control_utils", folder / "utils" / "control_utils.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    osc, model = formulas(), pin.buildModelFromMJCF(str(MODEL))
    data, hand, rng = model.createData(), model.getFrameId("tcp"), np.random.default_rng(11)
    joints = READY + rng.uniform(-0.5, 0.5, (50, 7))  # well away from singular postures
    offset, posture, torque = rng.uniform(-0.3, 0.3, (50, 3)), rng.uniform(-1.5, 1.5, (50, 7)), []
    for q, move, rest in zip(joints, offset, posture, strict=True):
        whole = pin.crba(model, data, q)
        mass = np.triu(whole) + np.triu(whole, 1).T
        jacobian = pin.computeFrameJacobian(model, data, q, hand, pin.LOCAL_WORLD_ALIGNED)
        full, _, _, null = osc.opspace_matrices(mass, jacobian, jacobian[:3], jacobian[3:])
        wrench = full @ (KP * np.concatenate([move, np.zeros(3)]))
        gravity = pin.computeGeneralizedGravity(model, data, q)
        inner = osc.nullspace_torques(mass, null, rest, q, np.zeros(7), joint_kp=KP)
        torque.append(jacobian.T @ wrench + gravity + inner)
    np.savez_compressed(HERE / "arm7_osc.npz", joints=joints, offset=offset, posture=posture, torque=np.array(torque))


if __name__ == "__main__":
    main()
