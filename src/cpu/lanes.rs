//! What the loops of this module share: the choice of instructions.
//!
//! They are written for vectors of any length: what is not generic over [`Simd`] works on arrays of 16
//! numbers, which the compiler takes apart into what the machine has.

use pulp::{Simd, WithSimd};

/// Runs `op` compiled for the widest vectors of this machine that pulp knows, chosen at run time on x86;
/// elsewhere, wasm included, what the build has.
///
/// `op` and all that it calls must be `inline(always)` to be part of that.
#[inline]
pub fn dispatch<T: WithSimd>(op: T) -> T::Output {
    pulp::Arch::new().dispatch(op)
}

/// `a * b + c`, in one step where the machine has one.
#[inline(always)]
pub fn mul_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    // pulp's own relaxed vectors are chosen at run time, which a wasm module can't do: one with such an
    // instruction starts nowhere else.
    #[cfg(all(target_family = "wasm", feature = "relaxed-simd"))]
    if size_of::<S::f32s>() == size_of::<core::arch::wasm32::v128>() {
        use pulp::bytemuck::cast;
        return cast(core::arch::wasm32::f32x4_relaxed_madd(
            cast(a),
            cast(b),
            cast(c),
        ));
    }
    simd.mul_add_e_f32s(a, b, c)
}
