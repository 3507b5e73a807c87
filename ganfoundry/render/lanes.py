"""Eight pixels at once for the kernels: vector instructions that Numba does not choose by itself."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 8


_NUMBER, _WHOLE = ir.VectorType(ir.DoubleType(), LANES), ir.VectorType(ir.IntType(32), LANES)
_FUSED = ["contract"]


def _spread(builder: Any, value: Any) -> Any:
    """The same value in all lanes."""
    kind = ir.VectorType(value.type, LANES)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(_WHOLE, [0] * LANES))


def _place(context: Any, builder: Any, array: Any, kind: Any, at: Any, item: Any) -> Any:
    """Pointer to LANES items of a flat array from index `at` on."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), item.as_pointer())


def _take(builder: Any, won: Any, here: Any, face: Any, depths: Any, faces: Any) -> None:
    """Where `won` and nearer than what is there, write 1 / depth and the face."""
    before = builder.load(depths, align=8)
    won = builder.and_(won, builder.fcmp_ordered(">", here, before))
    builder.store(builder.select(won, here, before), depths, align=8)
    builder.store(builder.select(won, _spread(builder, face), builder.load(faces, align=4)), faces, align=4)


@intrinsic
def nearer_pixels(typing, inverse, winner, at, count, starts, steps, least, face):
    """Draw a face into `count` pixels from index `at` on, at most LANES.

    inverse (flat float64) holds 1 / depth of the face in winner (flat int32). starts and steps are twice the areas
    opposite to the corners, and 1 / depth, in the first pixel and from one to the next. Pixels whose areas are at least
    `least` and that lie nearer than what is there take the face. Both arrays end LANES after the last pixel.
    """
    signature = types.void(inverse, winner, types.intp, types.float64, starts, steps, types.float64, types.int32)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        inverse, winner, at, count, starts, steps, least, face = arguments
        lanes = ir.Constant(_NUMBER, [float(k) for k in range(LANES)])

        def line(k: int) -> Any:
            start, step = (_spread(builder, builder.extract_value(x, k)) for x in (starts, steps))
            return builder.fadd(start, builder.fmul(step, lanes, flags=_FUSED), flags=_FUSED)

        bound = _spread(builder, least)
        won = builder.fcmp_ordered("<", lanes, _spread(builder, count))
        for k in range(3):
            won = builder.and_(won, builder.fcmp_ordered(">=", line(k), bound))
        depths = _place(context, builder, inverse, signature.args[0], at, _NUMBER)
        faces = _place(context, builder, winner, signature.args[1], at, _WHOLE)
        _take(builder, won, line(3), face, depths, faces)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def nearer_points(typing, across, down, inverse, winner, at, corners, face):
    """Draw a face into LANES points (across, down) from index `at` on; inverse and winner as in `nearer_pixels`.

    corners are ax, ay, bx, by, cx, cy, in the order in which their area is positive, and the corners' 1 / depth, each
    divided by twice that area. Points on the border belong to the face.
    """
    signature = types.void(across, down, inverse, winner, types.intp, corners, types.int32)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        across, down, inverse, winner, at, corners, face = arguments
        x, y = (
            builder.load(_place(context, builder, array, kind, at, _NUMBER), align=8)
            for array, kind in zip((across, down), signature.args, strict=False)
        )
        given = [_spread(builder, builder.extract_value(corners, k)) for k in range(9)]
        from_x = [builder.fsub(given[k], x) for k in (0, 2, 4)]
        from_y = [builder.fsub(given[k], y) for k in (1, 3, 5)]
        zero, won, here = ir.Constant(_NUMBER, [0.0] * LANES), None, None
        for k in range(3):
            i, j = (k + 1) % 3, (k + 2) % 3
            area = builder.fsub(
                builder.fmul(from_x[i], from_y[j], flags=_FUSED), builder.fmul(from_x[j], from_y[i], flags=_FUSED),
                flags=_FUSED,
            )  # fmt: skip
            inside = builder.fcmp_ordered(">=", area, zero)
            part = builder.fmul(area, given[6 + k], flags=_FUSED)
            won = inside if won is None else builder.and_(won, inside)
            here = part if here is None else builder.fadd(here, part, flags=_FUSED)
        depths = _place(context, builder, inverse, signature.args[2], at, _NUMBER)
        faces = _place(context, builder, winner, signature.args[3], at, _WHOLE)
        _take(builder, won, here, face, depths, faces)
        return context.get_dummy_value()

    return signature, generate
