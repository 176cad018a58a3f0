//! The exact GELU, and the exponential of the softmax, on many values at once.

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

use pulp::{Simd, WithSimd};

use super::lanes::{dispatch, mul_add};

/// The GELU of some values, in their places.
pub fn gelu_of(values: &mut [f32]) {
    struct Gelu<'a>(&'a mut [f32]);
    impl WithSimd for Gelu<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            gelu(simd, self.0);
        }
    }
    dispatch(Gelu(values));
}

/// `e^x` of some values up to 0, in their places.
pub fn exp_of(values: &mut [f32]) {
    struct Exp<'a>(&'a mut [f32]);
    impl WithSimd for Exp<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            exp(simd, self.0, 0.0);
        }
    }
    dispatch(Exp(values));
}

/// The GELU `x Φ(x)` of some values, within 3e-7 of the larger of 1 and the exact one.
#[inline(always)]
pub fn gelu<S: Simd>(simd: S, values: &mut [f32]) {
    let erf = Erf::new(simd);
    let [to_erf, half] = constants(simd, &[FRAC_1_SQRT_2, 0.5]);
    let (vectors, rest) = S::as_mut_simd_f32s(values);
    for x in vectors {
        let e = erf.of(simd, simd.mul_f32s(*x, to_erf));
        *x = simd.mul_f32s(*x, mul_add(simd, half, e, half));
    }
    if !rest.is_empty() {
        let x = simd.partial_load_f32s(rest);
        let e = erf.of(simd, simd.mul_f32s(x, to_erf));
        simd.partial_store_f32s(rest, simd.mul_f32s(x, mul_add(simd, half, e, half)));
    }
}

/// `e^(x - most)` of some values, none above `most`, in their places: their sum.
#[inline(always)]
pub fn exp<S: Simd>(simd: S, values: &mut [f32], most: f32) -> f32 {
    let exp = Exp::new(simd);
    let most = simd.splat_f32s(most);
    // Several sums, as one of thousands of numbers loses digits.
    let mut sums = [simd.splat_f32s(0.0); 4];
    let (vectors, rest) = S::as_mut_simd_f32s(values);
    let (fours, single) = vectors.as_chunks_mut::<4>();
    for four in fours {
        for (x, sum) in four.iter_mut().zip(&mut sums) {
            *x = exp.of(simd, simd.sub_f32s(*x, most));
            *sum = simd.add_f32s(*sum, *x);
        }
    }
    for (x, sum) in single.iter_mut().zip(&mut sums) {
        *x = exp.of(simd, simd.sub_f32s(*x, most));
        *sum = simd.add_f32s(*sum, *x);
    }
    let [a, b, c, d] = sums;
    let sums = simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d));
    let mut sum = simd.reduce_sum_f32s(sums);
    if !rest.is_empty() {
        let x = simd.partial_load_f32s(rest);
        simd.partial_store_f32s(rest, exp.of(simd, simd.sub_f32s(x, most)));
        sum += rest.iter().sum::<f32>();
    }
    sum
}

/// The error function, within 3e-7. NaN of NaN.
///
/// Source: the rational minimax approximation of Eigen (`generic_fast_erf_float`).
struct Erf<S: Simd> {
    p: [S::f32s; 7],
    q: [S::f32s; 5],
    /// From where on, and what it is there: what it lacks to 1 is 2e-7 then, and a GELU multiplies that.
    ends: [S::f32s; 4],
}

impl<S: Simd> Erf<S> {
    #[inline(always)]
    fn new(simd: S) -> Self {
        Self {
            p: constants(
                simd,
                &[
                    -2.726_142_3e-10,
                    2.770_681_4e-8,
                    -2.101_024e-6,
                    -5.692_506_4e-5,
                    -7.349_906_3e-4,
                    -2.954_6e-3,
                    -1.609_603_3e-2,
                ],
            ),
            q: constants(
                simd,
                &[
                    -1.456_607_2e-5,
                    -2.133_740_6e-4,
                    -1.682_827e-3,
                    -7.373_329_2e-3,
                    -1.426_473_9e-2,
                ],
            ),
            ends: constants(simd, &[3.7, 1.0, -3.7, -1.0]),
        }
    }

    #[inline(always)]
    fn of(&self, simd: S, x: S::f32s) -> S::f32s {
        let square = simd.mul_f32s(x, x);
        let p = polynomial(simd, &self.p, square);
        let q = polynomial(simd, &self.q, square);
        let inside = simd.div_f32s(simd.mul_f32s(x, p), q);
        // Comparisons that are false for NaN keep it.
        let [above, one, below, minus_one] = self.ends;
        let lower = simd.select_f32s(simd.greater_than_f32s(x, above), one, inside);
        simd.select_f32s(simd.less_than_f32s(x, below), minus_one, lower)
    }
}

/// `e^x` for `x` up to 0, to 2e-7 of itself; 0 below the smallest normal number. NaN of NaN.
///
/// Source: the reduction to `2^n e^r` and the minimax polynomial of Cephes (`expf`).
struct Exp<S: Simd> {
    p: [S::f32s; 6],
    log2_e: S::f32s,
    /// `x + round` has the nearest whole number in its last bits.
    round: S::f32s,
    /// `-ln(2)`, in two parts.
    ln_2: [S::f32s; 2],
    one: S::f32s,
    tiny: S::f32s,
}

impl<S: Simd> Exp<S> {
    #[inline(always)]
    fn new(simd: S) -> Self {
        let [log2_e, round, high, low, one, tiny] = constants(
            simd,
            &[
                LOG2_E,
                12_582_912.0,
                -0.693_359_4,
                2.121_944_4e-4,
                1.0,
                -87.0,
            ],
        );
        Self {
            p: constants(
                simd,
                &[
                    1.987_569_2e-4,
                    1.398_199_9e-3,
                    8.333_452e-3,
                    4.166_579_6e-2,
                    0.166_666_65,
                    0.5,
                ],
            ),
            log2_e,
            round,
            ln_2: [high, low],
            one,
            tiny,
        }
    }

    #[inline(always)]
    fn of(&self, simd: S, x: S::f32s) -> S::f32s {
        let shifted = mul_add(simd, x, self.log2_e, self.round);
        let n = simd.sub_f32s(shifted, self.round);
        let r = mul_add(simd, n, self.ln_2[1], mul_add(simd, n, self.ln_2[0], x));
        let p = polynomial(simd, &self.p, r);
        let near = simd.add_f32s(mul_add(simd, p, simd.mul_f32s(r, r), r), self.one);
        // Far below, these bits are any.
        let mut power = [shifted];
        for bits in pulp::bytemuck::cast_slice_mut::<S::f32s, u32>(&mut power) {
            *bits = bits.wrapping_add(127) << 23;
        }
        let is_tiny = simd.less_than_f32s(x, self.tiny);
        simd.select_f32s(is_tiny, simd.splat_f32s(0.0), simd.mul_f32s(near, power[0]))
    }
}

/// The highest power's coefficient first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(
    simd: S,
    coefficients: &[S::f32s; N],
    x: S::f32s,
) -> S::f32s {
    let mut sum = coefficients[0];
    for coefficient in coefficients.iter().skip(1) {
        sum = mul_add(simd, sum, x, *coefficient);
    }
    sum
}

/// Constants as vectors.
#[inline(always)]
fn constants<S: Simd, const N: usize>(simd: S, values: &[f32; N]) -> [S::f32s; N] {
    // V8 makes a constant of a vector anew wherever it is used, in several instructions: it is given variables.
    #[cfg(target_family = "wasm")]
    let values = std::hint::black_box(values);
    let mut vectors = [simd.splat_f32s(0.0); N];
    for (vector, value) in vectors.iter_mut().zip(values) {
        *vector = simd.splat_f32s(*value);
    }
    vectors
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a test on every instruction set that the loops are compiled for and this machine has.
    fn on_each(test: impl WithSimd<Output = ()> + Copy) {
        Simd::vectorize(pulp::Scalar, test);
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(simd) = pulp::x86::V3::try_new() {
                Simd::vectorize(simd, test);
            }
            if let Some(simd) = pulp::x86::V4::try_new() {
                Simd::vectorize(simd, test);
            }
        }
        dispatch(test);
    }

    #[derive(Clone, Copy)]
    struct KeepsNan;

    impl WithSimd for KeepsNan {
        type Output = ();

        fn with_simd<S: Simd>(self, simd: S) {
            // In four vectors at once, in one, and in what is left over.
            const LEN: usize = 91;
            let values: Vec<f32> = (0..LEN).map(|i| -(i as f32) / 7.0).collect();
            let [mut weights, mut hidden] = [values.clone(), values.clone()];
            let whole = exp(simd, &mut weights, 0.0);
            gelu(simd, &mut hidden);
            assert!(whole.is_finite() && hidden.iter().all(|value| value.is_finite()));
            for nan in [f32::NAN, -f32::NAN] {
                for at in 0..LEN {
                    let mut broken = values.clone();
                    broken[at] = nan;
                    let sum = exp(simd, &mut broken, 0.0);
                    assert!(sum.is_nan() && broken[at].is_nan(), "e^x at {at}");
                    broken[at] = weights[at];
                    assert_eq!(broken, weights);

                    let mut broken = values.clone();
                    broken[at] = nan;
                    gelu(simd, &mut broken);
                    assert!(broken[at].is_nan(), "GELU at {at}");
                    broken[at] = hidden[at];
                    assert_eq!(broken, hidden);
                }
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        on_each(KeepsNan);
    }
}
