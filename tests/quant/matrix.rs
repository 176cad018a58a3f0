//! Quantised matrices: the errors of quantisation, hostile values and bytes, and that the way the
//! weights arrive changes nothing.

use aim_web::ErrorKind;
use aim_web::quant::{Bits, Method, QuantMatrix, Quantizer, Scheme, dequantize};
use half::f16;
use proptest::prelude::*;

fn schemes() -> impl Iterator<Item = Scheme> {
    [4, 8]
        .into_iter()
        .flat_map(|bits| [32, 64, 128].map(|group| Scheme::new(bits, group).unwrap()))
}

fn quantize(w: &[f32], d_input: usize, scheme: Scheme, method: Method) -> QuantMatrix {
    let mut quantizer = Quantizer::new(w.len() / d_input, d_input, scheme, method).unwrap();
    quantizer.push(w).unwrap();
    quantizer.finish().unwrap()
}

fn quantize_error(w: &[f32], scheme: Scheme) -> aim_web::Error {
    let mut quantizer = Quantizer::new(w.len() / 128, 128, scheme, Method::Search).unwrap();
    quantizer.push(w).unwrap_err()
}

fn squared_error(w: &[f32], back: &[f32]) -> f64 {
    w.iter()
        .zip(back)
        .map(|(a, b)| f64::from(a - b).powi(2))
        .sum()
}

/// The error relative to the matrix, both as L2 norms.
fn relative_error(w: &[f32], d_input: usize, scheme: Scheme, method: Method) -> f64 {
    let back = dequantize::matrix(&quantize(w, d_input, scheme, method)).unwrap();
    (squared_error(w, &back) / squared_error(w, &vec![0.0; w.len()])).sqrt()
}

/// Normally distributed (Box and Muller).
fn gaussian(len: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let mut uniform = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    };
    (0..len)
        .map(|_| {
            ((-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()) as f32
        })
        .collect()
}

/// A matrix of the goldens' models (`tests/common/generator.rs`, without what that needs besides).
fn golden_weights(seed: &str, name: &str, shape: [usize; 2]) -> Vec<f32> {
    let mut state = 0xCBF2_9CE4_8422_2325_u64;
    for byte in seed.bytes().chain([b'/']).chain(name.bytes()) {
        state = (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
    }
    let mut uniform = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = state;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ (x >> 31)) >> 40
    };
    let factor = if name.ends_with("attn.qkv.weight") {
        1.5
    } else {
        1.0
    };
    let std = factor * (shape[1] as f64).sqrt().recip();
    (0..shape[0] * shape[1])
        .map(|_| {
            let sum = uniform() + uniform() + uniform() + uniform();
            (std * ((sum as f64 / 8_388_608.0 - 4.0) * 0.866_025_403_784_438_6)) as f32
        })
        .collect()
}

#[test]
fn search_beats_mlx_on_gaussian_weights() {
    let w = gaussian(256 * 1024);
    for scheme in schemes() {
        // Of sizes that trained weights have: at 8 bits the scales of small ones are subnormal f16.
        for size in [1.0, 0.02, 0.001] {
            let w: Vec<f32> = w.iter().map(|w| w * size).collect();
            let [nearest, search] = [Method::Nearest, Method::Search]
                .map(|method| relative_error(&w, 1024, scheme, method));
            let most = if scheme.bits() == Bits::Four {
                0.92
            } else {
                0.95
            };
            assert!(
                search <= most * nearest,
                "{scheme:?}, size {size}: {search} of {nearest}"
            );
        }
    }
}

#[test]
fn errors_are_those_of_mlx_or_less() {
    // MLX's own on Gaussian weights in groups of 64.
    let w = gaussian(256 * 1024);
    for (scheme, want) in [(Scheme::Q4, 0.0909), (Scheme::Q8, 0.005_43)] {
        let error = relative_error(&w, 1024, scheme, Method::Nearest);
        assert!((error / want - 1.0).abs() < 0.01, "{scheme:?}: {error}");
    }
}

/// The goldens' own round-to-nearest on these weights: the mean error of all matrices of the model
/// with blocks of 32, asymmetric.
#[test]
fn errors_on_the_goldens_weights_are_not_over_theirs() {
    let names: [(&str, [usize; 2]); 4] = [
        ("trunk.blocks.0.attn.qkv.weight", [1152, 384]),
        ("trunk.blocks.5.attn.proj.weight", [384, 384]),
        ("trunk.blocks.11.mlp.fc2.weight", [384, 1536]),
        ("head.linear.weight", [1000, 384]),
    ];
    for (bits, golden) in [(4, 0.075_669_2), (8, 0.004_453_23)] {
        let scheme = Scheme::new(bits, 32).unwrap();
        // MLX gives zero a code of its own, at the cost of some range; the goldens' scheme does not.
        for (method, most) in [(Method::Search, 0.95), (Method::Nearest, 1.05)] {
            let mut sum = 0.0;
            for (name, shape) in names {
                let w = golden_weights("f", name, shape);
                sum += relative_error(&w, shape[1], scheme, method);
            }
            let mean = sum / names.len() as f64;
            println!(
                "{bits} bits, {method:?}: {mean:.6}, goldens {golden}: {:.4}",
                mean / golden
            );
            assert!(
                mean <= most * golden,
                "{bits} bits, {method:?}: {mean} of {golden}"
            );
        }
    }
}

fn weight() -> impl Strategy<Value = f32> {
    prop_oneof![
        8 => -1f32..1.0,
        1 => -60000f32..60000.0,
        1 => -1e-6f32..1e-6,
        1 => proptest::num::f32::SUBNORMAL,
        1 => Just(0.0),
        1 => Just(65504.0),
        1 => Just(-65504.0),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pieces_change_nothing(
        w in proptest::collection::vec(weight(), 3 * 256),
        cuts in proptest::collection::vec(0usize..=3 * 256, 0..20),
        nearest: bool,
    ) {
        let method = if nearest { Method::Nearest } else { Method::Search };
        let mut cuts = cuts;
        cuts.extend([0, w.len()]);
        cuts.sort_unstable();
        for scheme in schemes() {
            let mut quantizer = Quantizer::new(3, 256, scheme, method).unwrap();
            for ends in cuts.windows(2) {
                quantizer.push(&w[ends[0]..ends[1]]).unwrap();
            }
            prop_assert_eq!(quantizer.finish().unwrap(), quantize(&w, 256, scheme, method));
        }
    }

    /// Whatever the weights, no group comes out worse than MLX's.
    #[test]
    fn no_group_is_worse_than_mlx(w in proptest::collection::vec(weight(), 256), shift in weight()) {
        let w: Vec<f32> = w.iter().map(|w| (w * 0.01 + shift).clamp(-65504.0, 65504.0)).collect();
        for scheme in schemes() {
            let [nearest, search] = [Method::Nearest, Method::Search]
                .map(|method| dequantize::matrix(&quantize(&w, 256, scheme, method)).unwrap());
            let group = scheme.group_size();
            for ((w, nearest), search) in
                w.chunks(group).zip(nearest.chunks(group)).zip(search.chunks(group))
            {
                let (nearest, search) = (squared_error(w, nearest), squared_error(w, search));
                // Each weight is a rounded sum, which may be off by half a unit in its last place.
                let largest = w.iter().fold(0f32, |most, w| most.max(w.abs()));
                let rounding = (group as f64).sqrt() * f64::from(largest) * f64::from(f32::EPSILON);
                prop_assert!(
                    search.sqrt() <= nearest.sqrt() * 1.00005 + rounding,
                    "{:?}: {} of {}", scheme, search, nearest
                );
            }
        }
    }

    #[test]
    fn parts_come_back(w in proptest::collection::vec(weight(), 256)) {
        for scheme in schemes() {
            let a = quantize(&w, 128, scheme, Method::Search);
            let bytes: Vec<u8> = a.codes().iter().flat_map(|word| word.to_le_bytes()).collect();
            prop_assert_eq!(bytes, a.code_bytes());
            let halves = |values: &[f16]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
            prop_assert_eq!(halves(a.scales()), a.scale_bytes());
            prop_assert_eq!(halves(a.biases()), a.bias_bytes());
            let (codes, scales, biases) = a.clone().into_parts();
            prop_assert_eq!(a, QuantMatrix::new(2, 128, scheme, codes, scales, biases).unwrap());
        }
    }
}

#[test]
fn groups_of_one_value_are_kept_to_f16() {
    for value in [0.0, -0.0, 0.1, -0.1, 1e-6, -3e-8, 1e-40, 60000.0, -65504.0] {
        for scheme in schemes() {
            for method in [Method::Nearest, Method::Search] {
                let back =
                    dequantize::matrix(&quantize(&[value; 256], 128, scheme, method)).unwrap();
                let bound = value.abs() / 2048.0 + 3e-8;
                assert!(
                    back.iter().all(|w| (w - value).abs() <= bound),
                    "{value}, {scheme:?}: {}",
                    back[0]
                );
            }
        }
    }
}

/// Of a row that training has let die, say.
#[test]
fn groups_of_subnormals_are_kept_to_f16() {
    for step in [1e-45, 1e-41, 3e-39, 1.2e-38, 1e-37] {
        let w: Vec<f32> = (0..256).map(|i| (i % 7) as f32 * step).collect();
        for scheme in schemes() {
            for method in [Method::Nearest, Method::Search] {
                let back = dequantize::matrix(&quantize(&w, 128, scheme, method)).unwrap();
                assert!(back.iter().all(|w| w.abs() <= 3e-8), "{step}, {scheme:?}");
            }
        }
    }
}

#[test]
fn the_widest_range_is_kept() {
    let w: Vec<f32> = (0..256)
        .map(|i| if i % 2 == 0 { 65504.0 } else { -65504.0 })
        .collect();
    for scheme in schemes() {
        assert!(relative_error(&w, 128, scheme, Method::Search) < 2e-3);
    }
}

/// Others compute with quantised weights in f16.
#[test]
fn weights_come_back_within_the_range_of_f16() {
    let fits = |w: &f32| f16::from_f32(*w).is_finite();
    let even = |len: usize| (0..len).map(move |i| 2.0 * i as f32 / (len - 1) as f32 - 1.0);
    for scheme in schemes() {
        let group = scheme.group_size();
        let mut w: Vec<f32> = Vec::new();
        for (low, high) in [
            (-65504.0, 65504.0),
            (-65504.0, 0.0),
            (0.0, 65504.0),
            (-65504.0, 1000.0),
            (-1.0, 65504.0),
            (65408.0, 65504.0),
            (-65504.0, -64000.0),
            (-60000.0, 65504.0),
        ] {
            let middle = 0.5 * low + 0.5 * high;
            // Evenly, and with most at the ends.
            for power in [1, 3] {
                w.extend(even(group).map(|u| middle + (high - middle) * u.powi(power)));
            }
            let of_signs = even(group).map(|u| if u < 0.0 { low } else { high });
            w.extend(of_signs);
        }
        w.extend(
            gaussian(64 * group)
                .iter()
                .map(|w| (w * 30000.0).clamp(-65504.0, 65504.0)),
        );
        let [nearest, search] = [Method::Nearest, Method::Search].map(|method| {
            let matrix = quantize(&w, group, scheme, method);
            let back = dequantize::matrix(&matrix).unwrap();
            assert!(back.iter().all(fits), "{scheme:?}, {method:?}");
            back
        });
        for ((w, nearest), search) in w
            .chunks(group)
            .zip(nearest.chunks(group))
            .zip(search.chunks(group))
        {
            let (nearest, search) = (squared_error(w, nearest), squared_error(w, search));
            assert!(
                search <= nearest * 1.0001 + 1.0,
                "{scheme:?}: {search} of {nearest}"
            );
        }
    }
}

#[test]
fn a_weight_that_is_no_number_is_named() {
    for (value, kind) in [
        (f32::NAN, ErrorKind::Format),
        (f32::INFINITY, ErrorKind::Format),
        (f32::NEG_INFINITY, ErrorKind::Format),
        (65536.0, ErrorKind::Unsupported),
        (-1e30, ErrorKind::Unsupported),
    ] {
        for at in [0, 31, 128, 255, 300] {
            let mut w = vec![0.5; 3 * 128];
            w[at] = value;
            for scheme in schemes() {
                let error = quantize_error(&w, scheme);
                assert_eq!(error.kind(), kind);
                let place = format!("row {}, column {}", at / 128, at % 128);
                assert!(error.to_string().contains(&place), "{error}");
            }
        }
    }
    // Also when the group arrived in two pieces, after others.
    let mut quantizer = Quantizer::new(2, 128, Scheme::Q4, Method::Search).unwrap();
    quantizer.push(&[0.0; 150]).unwrap();
    let error = quantizer.push(&[f32::NAN; 60]).unwrap_err();
    assert!(error.to_string().contains("row 1, column 22"), "{error}");
}

#[test]
fn too_many_or_too_few_weights_are_refused() {
    let new = || Quantizer::new(2, 64, Scheme::Q4, Method::Search).unwrap();
    assert_eq!(
        new().push(&[0.0; 129]).unwrap_err().kind(),
        ErrorKind::Option
    );
    let mut quantizer = new();
    quantizer.push(&[0.0; 100]).unwrap();
    assert_eq!(
        quantizer.push(&[0.0; 29]).unwrap_err().kind(),
        ErrorKind::Option
    );
    let error = quantizer.finish().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Format);
    assert!(error.to_string().contains("100"), "{error}");
    assert!(Quantizer::new(2, 100, Scheme::Q4, Method::Search).is_err());
    // No allocation of this size succeeds.
    let error = Quantizer::new(usize::MAX / 64, 64, Scheme::Q4, Method::Search).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    assert!(
        Quantizer::new(0, 64, Scheme::Q4, Method::Search)
            .unwrap()
            .finish()
            .is_ok()
    );
}

#[test]
fn parts_of_a_wrong_length_are_refused() {
    let of = |codes: usize, scales: usize, biases: usize| {
        let floats = |len| vec![f16::ZERO; len];
        QuantMatrix::new(
            2,
            128,
            Scheme::Q4,
            vec![0; codes],
            floats(scales),
            floats(biases),
        )
    };
    assert!(of(32, 4, 4).is_ok());
    for (codes, scales, biases, what) in [
        (31, 4, 4, "codes"),
        (0, 4, 4, "codes"),
        (64, 4, 4, "codes"),
        (32, 3, 4, "scales"),
        (32, 4, 8, "biases"),
        (32, 4, 0, "biases"),
    ] {
        let error = of(codes, scales, biases).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format);
        assert!(error.to_string().starts_with(what), "{error}");
    }
}

#[test]
fn scales_and_biases_are_finite() {
    let of = |scale, bias| QuantMatrix::new(1, 64, Scheme::Q4, vec![0; 8], vec![scale], vec![bias]);
    assert!(of(f16::MAX, f16::MIN).is_ok());
    for (scale, bias, what) in [
        (f16::NAN, f16::ZERO, "scale of row 0, group 0"),
        (f16::INFINITY, f16::ZERO, "scale of row 0, group 0"),
        (f16::ZERO, f16::NEG_INFINITY, "bias of row 0, group 0"),
    ] {
        let error = of(scale, bias).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format);
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn tiles_are_parts_of_the_matrix() {
    let w = gaussian(5 * 256);
    for scheme in schemes() {
        let q = quantize(&w, 256, scheme, Method::Search);
        let all = dequantize::matrix(&q).unwrap();
        // The definition, code by code.
        let bits = scheme.bits();
        for (i, w) in all.iter().enumerate() {
            let (word, at) = (i / bits.codes_per_word(), i % bits.codes_per_word());
            let code = (q.codes()[word] >> (at * bits.get()) & bits.max_code()) as u8;
            let group = i / scheme.group_size();
            let want = q.scales()[group].to_f32() * f32::from(code) + q.biases()[group].to_f32();
            assert_eq!(*w, want);
        }
        let mut row = vec![0.0; 256];
        dequantize::row(&q, 3, &mut row).unwrap();
        assert_eq!(row, all[3 * 256..4 * 256]);
        let mut tile = vec![0.0; 2 * 128];
        dequantize::tile(&q, 1..3, 128..256, &mut tile).unwrap();
        assert_eq!(tile[..128], all[256 + 128..2 * 256]);
        assert_eq!(tile[128..], all[2 * 256 + 128..3 * 256]);

        let mut out = vec![0.0; 256];
        for (rows, columns) in [
            (5..6, 0..256),
            (0..1, 0..255),
            (0..1, 16..272),
            (0..2, 0..256),
            (0..1, 0..384),
        ] {
            let error = dequantize::tile(&q, rows, columns, &mut out).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Option);
        }
        assert!(dequantize::row(&q, usize::MAX, &mut out).is_err());
        dequantize::tile(&q, 5..5, 0..256, &mut []).unwrap();
    }
}
