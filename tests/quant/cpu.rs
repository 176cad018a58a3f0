//! The product with a quantised matrix on the CPU, against f64.

use aim_web::ErrorKind;
use aim_web::quant::{Method, QuantMatrix, Quantizer, Scheme, cpu, dequantize};

fn values(len: usize, mut seed: u64) -> Vec<f32> {
    let mut uniform = || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 40) as f32 / (1 << 24) as f32
    };
    (0..len)
        .map(|_| uniform() + uniform() + uniform() + uniform() - 2.0)
        .collect()
}

fn matrix(d_output: usize, d_input: usize, scheme: Scheme) -> QuantMatrix {
    let mut quantizer = Quantizer::new(d_output, d_input, scheme, Method::Search).unwrap();
    quantizer.push(&values(d_output * d_input, 1)).unwrap();
    quantizer.finish().unwrap()
}

#[test]
fn products_are_those_of_f64() {
    for [d_output, d_input] in [
        [1, 128],
        [15, 128],
        [16, 384],
        [17, 640],
        [50, 512],
        [100, 1024],
        [33, 1536],
        [576, 192],
    ] {
        for bits in [4, 8] {
            for group in [32, 64, 128] {
                let scheme = Scheme::new(bits, group).unwrap();
                if !scheme.fits(d_input) {
                    continue;
                }
                let w = matrix(d_output, d_input, scheme);
                let floats = dequantize::matrix(&w).unwrap();
                // One row, whole blocks of rows, and every rest.
                for n in [1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 65] {
                    let x = values(n * d_input, 2);
                    // What stood there must not matter.
                    let mut y = vec![f32::NAN; n * d_output];
                    cpu::matmul(&x, &w, &mut y).unwrap();
                    for (x, y) in x.chunks(d_input).zip(y.chunks(d_output)) {
                        for (row, y) in floats.chunks(d_input).zip(y) {
                            let terms = || {
                                x.iter()
                                    .zip(row)
                                    .map(|(x, w)| f64::from(*x) * f64::from(*w))
                            };
                            let (want, size) =
                                (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
                            assert!(
                                (f64::from(*y) - want).abs() <= 1e-6 * size,
                                "{d_output} x {d_input}, {scheme:?}, n {n}: {y}, not {want}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
#[cfg(feature = "threads")]
fn threads_change_nothing() {
    let w = matrix(333, 512, Scheme::Q4);
    for n in [1, 40] {
        let x = values(n * 512, 2);
        let run = |threads| {
            let mut y = vec![0.0; n * 333];
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| cpu::matmul(&x, &w, &mut y)).unwrap();
            y
        };
        let one = run(1);
        for threads in [2, 3, 8] {
            assert_eq!(run(threads), one, "n {n}, {threads} threads");
        }
    }
}

#[test]
fn other_shapes_are_refused() {
    let w = matrix(10, 128, Scheme::Q4);
    for (x, y) in [
        (127, 10),
        (129, 10),
        (128, 9),
        (128, 20),
        (0, 10),
        (256, 10),
    ] {
        let error = cpu::matmul(&vec![0.0; x], &w, &mut vec![0.0; y]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Option, "{x}, {y}");
    }
    cpu::matmul(&[], &w, &mut []).unwrap();
    cpu::matmul(&[0.0; 128], &matrix(0, 128, Scheme::Q4), &mut []).unwrap();
}
