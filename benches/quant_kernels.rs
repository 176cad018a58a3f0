//! The product with a quantised matrix against one in f32 of the same shape (the gemm crate, as
//! candle calls it), in turns; and the speed of quantisation.
//!
//! `cargo bench --features threads --bench quant_kernels`, with `RAYON_NUM_THREADS=1` for one core. Times are medians.

#![allow(clippy::unwrap_used)]

mod timing;

use std::hint::black_box;

use aim_web::quant::{Method, QuantMatrix, Quantizer, Scheme, cpu};
use timing::{in_turns, median, seconds};

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

/// How often each is timed.
const ROUNDS: usize = 40;

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
            let [mut y, mut y4, mut y8] = [0; 3].map(|_| vec![0.0; n * d_output]);
            let products = (n * d_output * d_input) as f64;
            // Long enough for the clock.
            let repeat = (1e7 / products).ceil() as usize;
            let often = |run: &mut dyn FnMut()| (0..repeat).for_each(|_| run());
            let [float, r4, r8] = in_turns(
                ROUNDS,
                [
                    &mut || {
                        often(&mut || gemm_f32(&x, &w, black_box(&mut y), [n, d_output, d_input]));
                    },
                    &mut || often(&mut || cpu::matmul(&x, &q4, black_box(&mut y4)).unwrap()),
                    &mut || often(&mut || cpu::matmul(&x, &q8, black_box(&mut y8)).unwrap()),
                ],
            );
            let speed = 2e-9 * products * repeat as f64 / float;
            let [r4, r8] = [r4, r8].map(|time| time / float);
            println!("{n:>5} {d_output:>5} {d_input:>5}  {r4:>8.3} {r8:>8.3}  {speed:.1}");
        }
    }
    let shape = [256, 1536];
    let w = values(shape[0] * shape[1], 3);
    for method in [Method::Nearest, Method::Search] {
        for scheme in [Scheme::Q4, Scheme::Q8] {
            let run = |_| seconds(|| drop(black_box(quantize(&w, shape, scheme, method))));
            let speed = 4e-6 * w.len() as f64 / median((0..ROUNDS).map(run).collect());
            println!(
                "quantize {method:?} to {} bits: {speed:.0} MB/s of f32",
                scheme.bits().get()
            );
        }
    }
}
