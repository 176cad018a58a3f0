//! What the loops of this module share: the choice of instructions, and f16 without branches.

use half::f16;
#[cfg(target_arch = "x86_64")]
use pulp::Simd;
use pulp::WithSimd;

/// Runs `op` compiled for the widest vectors of this machine that pulp knows (AVX2 on x86, chosen
/// at run time; elsewhere, wasm included, what the build has).
///
/// `op` and all that it calls must be `inline(always)` to be part of that.
#[inline]
pub(super) fn dispatch<T: WithSimd>(op: T) -> T::Output {
    // Not `Arch::dispatch`: with AVX-512 that hands out vectors of 16 lanes, which the loops here are not
    // written for.
    #[cfg(target_arch = "x86_64")]
    match pulp::x86::V3::try_new() {
        Some(simd) => Simd::vectorize(simd, op),
        None => Simd::vectorize(pulp::Scalar, op),
    }
    #[cfg(not(target_arch = "x86_64"))]
    pulp::Arch::new().dispatch(op)
}

/// A finite f16 as f32, exactly, subnormals included. Vectorises, which `f16::to_f32` does not.
#[inline(always)]
pub(crate) const fn widen(value: f16) -> f32 {
    let bits = value.to_bits() as u32;
    // The exponent's bias differs by 112.
    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
    f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
}

/// The f16 nearest to `value` (ties to even), as f32. Vectorises. `value` is finite; over 65504 the
/// exponent goes on.
#[inline(always)]
pub(super) const fn round_to_f16(value: f32) -> f32 {
    let bits = value.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let normal = magnitude.wrapping_add(0xfff + (magnitude >> 13 & 1)) & !0x1fff;
    // Below 2^-14 an f16 is a multiple of 2^-24, the distance between two f32 in [0.5, 1).
    let subnormal = ((f32::from_bits(magnitude) + 0.5) - 0.5).to_bits();
    let rounded = if magnitude < 0x3880_0000 {
        subnormal
    } else {
        normal
    };
    f32::from_bits(rounded | bits & 0x8000_0000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_finite_f16_widens_exactly() {
        for bits in 0..=u16::MAX {
            let value = f16::from_bits(bits);
            if value.is_finite() {
                assert_eq!(widen(value).to_bits(), value.to_f32().to_bits());
                assert_eq!(
                    round_to_f16(value.to_f32()).to_bits(),
                    value.to_f32().to_bits()
                );
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn rounds_as_half_does(value in prop_oneof![-65504f32..65504.0, -1e-3f32..1e-3, -2e-7f32..2e-7, proptest::num::f32::SUBNORMAL]) {
            prop_assert_eq!(round_to_f16(value).to_bits(), f16::from_f32(value).to_f32().to_bits());
        }
    }

    #[test]
    fn ties_go_to_even() {
        for (value, want) in [
            (2049.0, 2048.0),
            (2051.0, 2052.0),
            (1.5 / 16_777_216.0, 2.0 / 16_777_216.0),
        ] {
            assert_eq!(round_to_f16(value), want);
        }
    }
}
