//! The product with a quantised matrix against one in f32 of the same shape (the gemm crate, as
//! candle calls it), in turns; and the speed of quantisation.
//!
//! `cargo bench --bench quant_kernels`, with `RAYON_NUM_THREADS=1` for one core. Of each the fastest
//! of many short runs counts: what a busy machine adds is not in it.

#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Instant;

use aim_web::quant::{Method, QuantMatrix, Quantizer, Scheme, cpu};

fn values(n: usize, mut seed: u64) -> Vec<f32> {
    let mut uniform = || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 40) as f32 / (1 << 24) as f32
    };
    (0..n)
        .map(|_| uniform() + uniform() + uniform() + uniform() - 2.0)
        .collect()
}

fn quantize(w: &[f32], shape: [usize; 2], scheme: Scheme, method: Method) -> QuantMatrix {
    let mut quantizer = Quantizer::new(shape[0], shape[1], scheme, method).unwrap();
    quantizer.push(w).unwrap();
    quantizer.finish().unwrap()
}

#[allow(unsafe_code)]
fn gemm_f32(x: &[f32], w: &[f32], y: &mut [f32], [n, d_output, d_input]: [usize; 3]) {
    assert!(x.len() == n * d_input && w.len() == d_output * d_input && y.len() == n * d_output);
    let threads = rayon::current_num_threads();
    let parallelism = if threads > 1 {
        gemm::Parallelism::Rayon(threads)
    } else {
        gemm::Parallelism::None
    };
    let [o, i] = [d_output, d_input].map(|d| d as isize);
    // Safety: the lengths are those of the shapes and strides.
    unsafe {
        gemm::gemm(
            n,
            d_output,
            d_input,
            y.as_mut_ptr(),
            1,
            o,
            false,
            x.as_ptr(),
            1,
            i,
            w.as_ptr(),
            i,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

fn seconds(mut run: impl FnMut()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

fn fastest(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(f64::INFINITY, f64::min)
}

fn main() {
    println!("threads: {}", rayon::current_num_threads());
    println!(
        "{:>5} {:>5} {:>5}  {:>8} {:>8}  f32 GFLOP/s",
        "n", "out", "in", "q4/f32", "q8/f32"
    );
    for [d_output, d_input] in [[576, 192], [1152, 384], [384, 1536], [1536, 1536]] {
        let w = values(d_output * d_input, 1);
        let q4 = quantize(&w, [d_output, d_input], Scheme::Q4, Method::Nearest);
        let q8 = quantize(&w, [d_output, d_input], Scheme::Q8, Method::Nearest);
        for n in [1, 64, 256] {
            let x = values(n * d_input, 2);
            let mut y = vec![0.0; n * d_output];
            let products = (n * d_output * d_input) as f64;
            let repeat = (1e7 / products).ceil() as usize;
            let (mut r4, mut r8, mut f) = (vec![], vec![], vec![]);
            for _ in 0..40 {
                let mut run = |which: u8| {
                    seconds(|| {
                        for _ in 0..repeat {
                            match which {
                                0 => gemm_f32(&x, &w, black_box(&mut y), [n, d_output, d_input]),
                                4 => cpu::matmul(&x, &q4, black_box(&mut y)).unwrap(),
                                _ => cpu::matmul(&x, &q8, black_box(&mut y)).unwrap(),
                            }
                        }
                    })
                };
                let (a, b, c, d) = (run(0), run(4), run(8), run(0));
                r4.push(b);
                r8.push(c);
                f.push(a.min(d));
            }
            let f = fastest(f);
            let speed = 2e-9 * products * repeat as f64 / f;
            let [r4, r8] = [r4, r8].map(|times| fastest(times) / f);
            println!("{n:>5} {d_output:>5} {d_input:>5}  {r4:>8.3} {r8:>8.3}  {speed:.1}");
        }
    }
    let shape = [256, 1536];
    let w = values(shape[0] * shape[1], 3);
    for method in [Method::Nearest, Method::Search] {
        for scheme in [Scheme::Q4, Scheme::Q8] {
            let times =
                (0..40).map(|_| seconds(|| drop(black_box(quantize(&w, shape, scheme, method)))));
            let speed = 4e-6 * w.len() as f64 / fastest(times);
            println!(
                "quantize {method:?} to {} bits: {speed:.0} MB/s of f32",
                scheme.bits().get()
            );
        }
    }
}
