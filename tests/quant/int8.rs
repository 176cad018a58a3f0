//! Products in integers, on every kernel that this machine has, against f64.

use aim_web::ErrorKind;
use aim_web::quant::int8::{Activations, IntMatrix, Kernel, Write};
use aim_web::quant::{Bits, QuantMatrix, Scheme, dequantize};
use half::f16;
use proptest::prelude::*;

use crate::common::int8_cases::{Case, check, kernels, matrix, product, values};

#[test]
fn products_are_those_of_f64() {
    for case in Case::all() {
        check(&case);
    }
}

fn schemes() -> impl Strategy<Value = (usize, usize)> {
    (
        prop_oneof![Just(4), Just(8)],
        prop_oneof![Just(32), Just(64), Just(128)],
    )
}

/// Weights and activations of all sizes, and some that are extreme.
fn numbers(len: usize) -> impl Strategy<Value = Vec<f32>> {
    let number = prop_oneof![
        8 => -4f32..4.0,
        1 => Just(0.0),
        1 => -1e-6f32..1e-6,
        1 => prop_oneof![Just(1000f32), Just(-1000.0)],
    ];
    proptest::collection::vec(number, len)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Any shape and any range of outputs, over or onto what was there.
    #[test]
    fn any_part_of_any_product((bits, group) in schemes(), d_output in 1usize..120, groups in 1usize..24,
        n in 1usize..20, seed: u64, range: [f64; 2], add: bool) {
        let w = matrix(d_output, groups * group, Scheme::new(bits, group).unwrap(), seed);
        let x = values(n * groups * group, seed ^ 1);
        let pick = |a: f64, b: f64, len: usize| {
            let [a, b] = [a, b].map(|at| (at.abs().fract() * (len + 1) as f64) as usize);
            a.min(b)..a.max(b)
        };
        let outputs = pick(range[0], range[1], d_output);
        let outputs = outputs.start / IntMatrix::STEP * IntMatrix::STEP..outputs.end;
        for kernel in kernels(w.scheme().bits()) {
            let whole = product(kernel, &w, &x);
            let packed = IntMatrix::for_kernel(w.clone(), kernel).unwrap();
            let mut activations = Activations::new();
            activations.prepare(n, &packed).unwrap();
            let mut rows_mut = activations.rows_mut();
            for (row, x) in x.chunks(w.d_input()).enumerate() {
                rows_mut.quantize(row, x).unwrap();
            }
            let stride = outputs.len() + 3;
            let mut y = vec![0.5; n * stride];
            let write = if add { Write::Add } else { Write::Over };
            packed.product(activations.rows(), outputs.clone(), &mut y, stride, write).unwrap();
            for (row, y) in y.chunks(stride).enumerate() {
                let want = &whole[row * d_output..][..d_output][outputs.clone()];
                for (y, want) in y.iter().zip(want) {
                    let want = if add { 0.5 + want } else { *want };
                    // Equal but for what rounding an addition to 0.5 in parts may differ.
                    prop_assert!((y - want).abs() <= if add { 1e-5 * (1.0 + want.abs()) } else { 0.0 }, "{kernel:?}: {y}, not {want}");
                }
                // What lies between the rows stays.
                prop_assert!(y[outputs.len()..].iter().all(|y| *y == 0.5));
            }
        }
    }

    /// Codes, scales and biases that no quantiser would make.
    #[test]
    fn any_matrix((bits, group) in schemes(), d_output in 1usize..40, groups in 1usize..6, n in 1usize..9, seed: u64,
        x in numbers(9 * 6 * 128)) {
        let scheme = Scheme::new(bits, group).unwrap();
        let d_input = groups * group;
        let sizes = scheme.sizes(d_output, d_input).unwrap();
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        };
        let codes = (0..sizes.words).map(|_| match next() % 8 { 0 => 0, 1 => u32::MAX, _ => next() ^ next() << 7 }).collect();
        let mut halves = |_| loop {
            let value = f16::from_bits((next() & 0xbfff) as u16);
            if value.is_finite() { break value; }
        };
        let scales = (0..sizes.groups).map(&mut halves).collect();
        let biases = (0..sizes.groups).map(&mut halves).collect();
        let w = QuantMatrix::new(d_output, d_input, scheme, codes, scales, biases).unwrap();
        check(&Case { w, x: x[..n * d_input].to_vec() });
    }

    /// Rows that are not finite make their own products NaN, and no others.
    #[test]
    fn infinities_and_nans_stay_in_their_row((bits, group) in schemes(), at in 0usize..3, column in 0usize..256,
        bad in prop_oneof![Just(f32::NAN), Just(-f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY)]) {
        let w = matrix(35, 256, Scheme::new(bits, group).unwrap(), 1);
        let x = values(3 * 256, 2);
        let mut spoilt = x.clone();
        spoilt[at * 256 + column] = bad;
        for kernel in kernels(w.scheme().bits()) {
            let (want, y) = (product(kernel, &w, &x), product(kernel, &w, &spoilt));
            for (row, (want, y)) in want.chunks(35).zip(y.chunks(35)).enumerate() {
                if row == at {
                    prop_assert!(y.iter().all(|y| y.is_nan()));
                } else {
                    prop_assert_eq!(want, y);
                }
            }
        }
    }
}

/// The share of the error that the rounding of activations has: per group, about a centre, in 8 bits.
#[test]
fn activations_are_rounded_finely() {
    let w = matrix(256, 1536, Scheme::Q8, 1);
    let floats = dequantize::matrix(&w).unwrap();
    let normal = values(8 * 1536, 2);
    // As GELU leaves them: never below -0.17.
    let gelu: Vec<f32> = normal
        .iter()
        .map(|x| x / (1.0 + (-1.702 * x).exp()))
        .collect();
    for (x, limit) in [(normal, 0.006), (gelu, 0.006)] {
        for kernel in kernels(Bits::Eight) {
            let y = product(kernel, &w, &x);
            let (mut error, mut size) = (0.0, 0.0);
            for (x, y) in x.chunks(1536).zip(y.chunks(256)) {
                for (row, y) in floats.chunks(1536).zip(y) {
                    let want: f64 = x
                        .iter()
                        .zip(row)
                        .map(|(x, w)| f64::from(*x) * f64::from(*w))
                        .sum();
                    error += (f64::from(*y) - want).powi(2);
                    size += want.powi(2);
                }
            }
            let error = (error / size).sqrt();
            assert!(error <= limit, "{kernel:?}: {error}");
        }
    }
}

#[test]
fn other_shapes_are_refused() {
    let w = IntMatrix::new(matrix(70, 128, Scheme::Q4, 1)).unwrap();
    let mut x = Activations::new();
    let mut y = vec![0.0; 140];
    let mut refused = |x: &Activations, outputs, len: usize, stride| {
        let error = w
            .product(x.rows(), outputs, &mut y[..len], stride, Write::Over)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Option);
    };
    // Not prepared; outputs that are not there or start inside a panel; no room.
    refused(&x, 0..70, 140, 70);
    x.prepare(2, &w).unwrap();
    for (outputs, len, stride) in [
        (0..71, 140, 71),
        (1..70, 140, 70),
        (0..70, 139, 70),
        (0..70, 140, 69),
        (0..70, 140, usize::MAX),
        #[allow(clippy::reversed_empty_ranges)]
        (64..32, 140, 70),
    ] {
        refused(&x, outputs, len, stride);
    }
    // Prepared for another length, group or kernel.
    for other in [
        IntMatrix::new(matrix(70, 256, Scheme::Q4, 1)).unwrap(),
        IntMatrix::new(matrix(70, 128, Scheme::new(4, 32).unwrap(), 1)).unwrap(),
        IntMatrix::for_kernel(matrix(70, 128, Scheme::Q4, 1), Kernel::PortableSigned).unwrap(),
    ] {
        x.prepare(2, &other).unwrap();
        refused(&x, 0..70, 140, 70);
    }
    x.prepare(2, &w).unwrap();
    for (row, len) in [(0, 127), (0, 129), (2, 128), (usize::MAX, 128)] {
        let error = x.rows_mut().quantize(row, &vec![0.0; len]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Option);
    }
    // Nothing is something that can be asked for.
    w.product(x.rows(), 0..0, &mut [], 0, Write::Over).unwrap();
    x.prepare(0, &w).unwrap();
    w.product(x.rows(), 0..70, &mut [], 70, Write::Over)
        .unwrap();
    assert!(x.rows_mut().is_empty());
    let empty = IntMatrix::new(matrix(0, 128, Scheme::Q4, 1)).unwrap();
    x.prepare(1, &empty).unwrap();
    empty
        .product(x.rows(), 0..0, &mut [], 0, Write::Over)
        .unwrap();
}

/// A buffer takes rows of any matrix in turn.
#[test]
fn buffers_are_used_again() {
    let mut x = Activations::new();
    for (d_input, n) in [(512, 9), (128, 2), (1024, 30), (128, 5)] {
        let w = matrix(40, d_input, Scheme::Q8, 1);
        let values = values(n * d_input, 2);
        let want = product(Kernel::best(Bits::Eight), &w, &values);
        let w = IntMatrix::new(w).unwrap();
        x.prepare(n, &w).unwrap();
        let mut rows = x.rows_mut();
        assert_eq!(rows.len(), n);
        for (row, x) in values.chunks(d_input).enumerate() {
            rows.quantize(row, x).unwrap();
        }
        let mut y = vec![f32::NAN; n * 40];
        w.product(x.rows(), 0..40, &mut y, 40, Write::Over).unwrap();
        assert_eq!(y, want);
    }
}

/// The packed matrix takes no more than the codes and scales, but for a sum to each row and whole panels.
#[test]
fn matrices_stay_small() {
    for scheme in [Scheme::Q4, Scheme::Q8] {
        let matrix = matrix(320, 1536, scheme, 1);
        let bytes = matrix.bytes();
        let packed = IntMatrix::new(matrix).unwrap().bytes();
        assert!(packed <= bytes + bytes / 100, "{packed}, not {bytes}");
    }
}
