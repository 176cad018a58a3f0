//! Floats of 16 bits in words, on devices that need not know them.

use cubecl::prelude::*;

/// A finite f16 in the low bits of a word as f32, exactly. No device has to know f16 for it, and none of
/// the numbers on the way is so small that a device might take it for zero.
#[cube]
pub(super) fn float_of_half(bits: u32) -> f32 {
    let magnitude = bits & 0x7fff;
    // The exponent's bias differs by 112.
    let normal = f32::reinterpret((magnitude << 13) + 0x3800_0000);
    // Multiples of 2^-24.
    let subnormal = f32::cast_from(magnitude) * 5.960_464_5e-8;
    let float = select(magnitude < 0x400, subnormal, normal);
    f32::reinterpret(u32::reinterpret(float) | ((bits & 0x8000) << 16))
}
