//! What the instructions of a kernel give at most: sums of a tile that stays in registers, of operands that stay in the
//! first-level cache.
#![allow(unsafe_code)] // Intrinsics, each where the processor has them.

use std::hint::black_box;

use aim_web::quant::Bits;
use aim_web::quant::int8::Kernel;

/// Multiplications and additions of one run, and the run; `None` for a kernel without a tile here.
pub fn register_tile(kernel: Kernel, bits: Bits) -> Option<(f64, fn())> {
    if !kernel.is_available(bits) {
        return None;
    }
    match (kernel, bits) {
        #[cfg(target_arch = "x86_64")]
        (Kernel::Avx2, Bits::Eight) => Some((operations(8, 2), x86::avx2_wide)),
        #[cfg(target_arch = "x86_64")]
        (Kernel::Avx2, Bits::Four) => Some((operations(8, 4), x86::avx2_narrow)),
        #[cfg(target_arch = "x86_64")]
        (Kernel::AvxVnni, _) => Some((operations(8, 4), x86::avx_vnni)),
        #[cfg(target_arch = "x86_64")]
        (Kernel::Avx512Vnni, _) => Some((operations(16, 4), x86::avx512_vnni)),
        _ => None,
    }
}

/// Of a tile.
const ROWS: usize = 6;
/// Of a tile.
const VECTORS: usize = 2;
/// Of a row.
const WORDS: usize = 256;
/// How often a run repeats it.
const TIMES: usize = 64;

fn operations(lanes: usize, step: usize) -> f64 {
    (2 * ROWS * VECTORS * WORDS * TIMES * lanes * step) as f64
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;

    use super::{ROWS, TIMES, VECTORS, WORDS, black_box};

    macro_rules! tile {
        ($name:ident, $features:literal, $vector:ty, $lanes:literal, $zero:ident, $splat:ident, $dot:expr) => {
            pub fn $name() {
                #[target_feature(enable = $features)]
                fn inner() {
                    let x = black_box([[0x0102_0304; ROWS]; WORDS]);
                    let w = black_box([[[0x0506_0708u32; $lanes]; VECTORS]; WORDS]);
                    for _ in 0..TIMES {
                        let mut sums = [[$zero(); VECTORS]; ROWS];
                        for (x, w) in x.iter().zip(&w) {
                            for r in 0..ROWS {
                                let x = $splat(x[r]);
                                for v in 0..VECTORS {
                                    // SAFETY: as many bytes are read as there are.
                                    let w =
                                        unsafe { w[v].as_ptr().cast::<$vector>().read_unaligned() };
                                    sums[r][v] = $dot(sums[r][v], w, x);
                                }
                            }
                        }
                        black_box(sums);
                    }
                }
                // SAFETY: the kernel is available.
                unsafe { inner() }
            }
        };
    }

    tile!(
        avx2_wide,
        "avx2",
        __m256i,
        8,
        _mm256_setzero_si256,
        _mm256_set1_epi32,
        |sum, w, x| { _mm256_add_epi32(sum, _mm256_madd_epi16(w, x)) }
    );
    tile!(
        avx2_narrow,
        "avx2",
        __m256i,
        8,
        _mm256_setzero_si256,
        _mm256_set1_epi32,
        |sum, w, x| { _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, x)) }
    );
    tile!(
        avx_vnni,
        "avx2,avxvnni",
        __m256i,
        8,
        _mm256_setzero_si256,
        _mm256_set1_epi32,
        |sum, w, x| { _mm256_dpbusd_avx_epi32(sum, w, x) }
    );
    tile!(
        avx512_vnni,
        "avx512f,avx512vnni",
        __m512i,
        16,
        _mm512_setzero_si512,
        _mm512_set1_epi32,
        |sum, w, x| { _mm512_dpbusd_epi32(sum, w, x) }
    );
}
