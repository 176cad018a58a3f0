//! x86-64: AVX2, AVX-VNNI and AVX-512 VNNI.
#![allow(unsafe_code)] // Intrinsics. A value of a type here exists only where the processor has the instructions.

use core::arch::x86_64::*;
use std::sync::LazyLock;

use super::isa::{Isa, MAGIC, Task};

/// What this processor has, asked once: the operating system answers slowly in a virtual machine.
struct Has {
    avx2: bool,
    avx_vnni: bool,
    avx512_vnni: bool,
}

static HAS: LazyLock<Has> = LazyLock::new(|| {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    Has {
        avx2,
        avx_vnni: avx2 && is_x86_feature_detected!("avxvnni"),
        avx512_vnni: avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni"),
    }
});

/// Defines a type whose values prove that the processor has some instructions, and compiles tasks for them.
macro_rules! proof {
    ($(#[$doc:meta])* $name:ident, $has:ident, $features:literal, $lanes:literal, $vectors:literal, $rows:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub(super) struct $name(());

        impl $name {
            /// `None` where the processor does not have it.
            pub(super) fn new() -> Option<Self> {
                HAS.$has.then_some(Self(()))
            }

            pub(super) fn vectorize<T: Task>(self, task: T) {
                #[target_feature(enable = $features)]
                fn inner<T: Task>(isa: $name, task: T) {
                    task.run::<$name, $lanes, $vectors, $rows>(isa);
                }
                // SAFETY: `self` is there only if the processor has the features (see `new`).
                unsafe { inner(self, task) }
            }
        }
    };
}

proof! {
    /// AVX2 with 8-bit codes: `vpmaddwd`, as `vpmaddubsw` would saturate. Activations may then have 16 bits, which
    /// costs nothing.
    Avx2Wide, avx2, "avx2,fma", 8, 2, 6
}
proof! {
    /// AVX2 with 4-bit codes: `vpmaddubsw`, whose sums of 32 columns fit in 16 bits: 32 / 2 * 15 * 127 = 30480.
    Avx2Narrow, avx2, "avx2,fma", 8, 2, 6
}
proof! {
    /// `vpdpbusd` on 256 bits.
    AvxVnni, avx_vnni, "avx2,fma,avxvnni", 8, 2, 6
}
proof! {
    /// `vpdpbusd` on 512 bits. 24 of 32 registers are sums, of integers and of floats.
    Avx512Vnni, avx512_vnni, "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni", 16, 2, 6
}

/// Floats of 256 bits, and words as they are.
macro_rules! avx2_common {
    () => {
        type Weights = __m256i;
        type Input = __m256i;
        type Dots = __m256i;
        type Ints = __m256i;
        type Floats = __m256;

        #[inline(always)]
        fn weights(self, words: &[u32; 8]) -> __m256i {
            // SAFETY: the processor has AVX; 32 bytes are read, as many as `words` has.
            unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
        }

        #[inline(always)]
        fn input(self, word: u32) -> __m256i {
            // SAFETY: the processor has AVX.
            unsafe { _mm256_set1_epi32(word.cast_signed()) }
        }

        #[inline(always)]
        fn zero(self) -> __m256i {
            // SAFETY: the processor has AVX.
            unsafe { _mm256_setzero_si256() }
        }

        #[inline(always)]
        fn add_ints(self, a: __m256i, b: __m256i) -> __m256i {
            // SAFETY: the processor has AVX2.
            unsafe { _mm256_add_epi32(a, b) }
        }

        #[inline(always)]
        fn floats(self, sums: __m256i) -> __m256 {
            // SAFETY: the processor has AVX.
            unsafe { _mm256_cvtepi32_ps(sums) }
        }

        #[inline(always)]
        fn wholes(self, raised: __m256) -> __m256i {
            // SAFETY: the processor has AVX2.
            unsafe {
                let magic = _mm256_set1_epi32(MAGIC.to_bits().cast_signed());
                _mm256_sub_epi32(_mm256_castps_si256(raised), magic)
            }
        }

        #[inline(always)]
        fn pack(self, wholes: [__m256i; 2], words: &mut [u32]) {
            // SAFETY: the processor has AVX2; as many bytes are written as `words` has, whose length is checked.
            unsafe {
                // Packing leaves the quarters in the order 0, 2, 1, 3.
                let shorts = _mm256_packs_epi32(wholes[0], wholes[1]);
                let shorts = _mm256_permute4x64_epi64::<0b11_01_10_00>(shorts);
                if Self::STEP == 2 {
                    let words = &mut words[..8];
                    _mm256_storeu_si256(words.as_mut_ptr().cast(), shorts);
                } else {
                    let words = &mut words[..4];
                    let bytes = _mm256_packs_epi16(shorts, shorts);
                    let bytes = _mm256_permute4x64_epi64::<0b11_01_10_00>(bytes);
                    _mm_storeu_si128(words.as_mut_ptr().cast(), _mm256_castsi256_si128(bytes));
                }
            }
        }

        #[inline(always)]
        fn splat(self, value: f32) -> __m256 {
            // SAFETY: the processor has AVX.
            unsafe { _mm256_set1_ps(value) }
        }

        #[inline(always)]
        fn load(self, values: &[f32; 8]) -> __m256 {
            // SAFETY: the processor has AVX; 8 floats are read, as many as `values` has.
            unsafe { _mm256_loadu_ps(values.as_ptr()) }
        }

        #[inline(always)]
        fn store(self, values: __m256, to: &mut [f32; 8]) {
            // SAFETY: the processor has AVX; 8 floats are written, as many as `to` has.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr(), values) }
        }

        #[inline(always)]
        fn add(self, a: __m256, b: __m256) -> __m256 {
            // SAFETY: the processor has AVX.
            unsafe { _mm256_add_ps(a, b) }
        }

        #[inline(always)]
        fn mul(self, a: __m256, b: __m256) -> __m256 {
            // SAFETY: the processor has AVX.
            unsafe { _mm256_mul_ps(a, b) }
        }

        #[inline(always)]
        fn min(self, a: __m256, b: __m256) -> __m256 {
            // SAFETY: the processor has AVX.
            unsafe { _mm256_min_ps(a, b) }
        }

        #[inline(always)]
        fn max(self, a: __m256, b: __m256) -> __m256 {
            // SAFETY: the processor has AVX.
            unsafe { _mm256_max_ps(a, b) }
        }

        #[inline(always)]
        fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
            // SAFETY: the processor has FMA.
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
    };
}

impl Isa<8> for Avx2Wide {
    const STEP: usize = 2;
    const SIGNED: bool = false;
    const SPAN: usize = 128;

    avx2_common!();

    #[inline(always)]
    fn dot(self, sums: __m256i, weights: __m256i, input: __m256i) -> __m256i {
        // SAFETY: the processor has AVX2.
        unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(weights, input)) }
    }

    #[inline(always)]
    fn ints(self, dots: __m256i) -> __m256i {
        dots
    }
}

impl Isa<8> for Avx2Narrow {
    const STEP: usize = 4;
    const SIGNED: bool = false;
    const SPAN: usize = 32;

    avx2_common!();

    #[inline(always)]
    fn dot(self, sums: __m256i, weights: __m256i, input: __m256i) -> __m256i {
        // SAFETY: the processor has AVX2.
        unsafe { _mm256_add_epi16(sums, _mm256_maddubs_epi16(weights, input)) }
    }

    #[inline(always)]
    fn ints(self, dots: __m256i) -> __m256i {
        // SAFETY: the processor has AVX2.
        unsafe { _mm256_madd_epi16(dots, _mm256_set1_epi16(1)) }
    }
}

impl Isa<8> for AvxVnni {
    const STEP: usize = 4;
    const SIGNED: bool = false;
    const SPAN: usize = 128;

    avx2_common!();

    #[inline(always)]
    fn dot(self, sums: __m256i, weights: __m256i, input: __m256i) -> __m256i {
        // SAFETY: the processor has AVX-VNNI.
        unsafe { _mm256_dpbusd_avx_epi32(sums, weights, input) }
    }

    #[inline(always)]
    fn ints(self, dots: __m256i) -> __m256i {
        dots
    }
}

impl Isa<16> for Avx512Vnni {
    const STEP: usize = 4;
    const SIGNED: bool = false;
    const SPAN: usize = 128;

    type Weights = __m512i;
    type Input = __m512i;
    type Dots = __m512i;
    type Ints = __m512i;
    type Floats = __m512;

    #[inline(always)]
    fn weights(self, words: &[u32; 16]) -> __m512i {
        // SAFETY: the processor has AVX-512; 64 bytes are read, as many as `words` has.
        unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
    }

    #[inline(always)]
    fn input(self, word: u32) -> __m512i {
        // SAFETY: the processor has AVX-512.
        unsafe { _mm512_set1_epi32(word.cast_signed()) }
    }

    #[inline(always)]
    fn zero(self) -> __m512i {
        // SAFETY: the processor has AVX-512.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    fn dot(self, sums: __m512i, weights: __m512i, input: __m512i) -> __m512i {
        // SAFETY: the processor has AVX-512 VNNI.
        unsafe { _mm512_dpbusd_epi32(sums, weights, input) }
    }

    #[inline(always)]
    fn ints(self, dots: __m512i) -> __m512i {
        dots
    }

    #[inline(always)]
    fn add_ints(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the processor has AVX-512.
        unsafe { _mm512_add_epi32(a, b) }
    }

    #[inline(always)]
    fn floats(self, sums: __m512i) -> __m512 {
        // SAFETY: the processor has AVX-512.
        unsafe { _mm512_cvtepi32_ps(sums) }
    }

    #[inline(always)]
    fn wholes(self, raised: __m512) -> __m512i {
        // SAFETY: the processor has AVX-512.
        unsafe {
            let magic = _mm512_set1_epi32(MAGIC.to_bits().cast_signed());
            _mm512_sub_epi32(_mm512_castps_si512(raised), magic)
        }
    }

    #[inline(always)]
    fn pack(self, wholes: [__m512i; 2], words: &mut [u32]) {
        let (words, _) = words[..8].as_chunks_mut::<4>();
        for (words, wholes) in words.iter_mut().zip(wholes) {
            // SAFETY: the processor has AVX-512; 16 bytes are written, as many as `words` has.
            unsafe { _mm_storeu_si128(words.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(wholes)) }
        }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        // SAFETY: the processor has AVX-512.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn load(self, values: &[f32; 16]) -> __m512 {
        // SAFETY: the processor has AVX-512; 16 floats are read, as many as `values` has.
        unsafe { _mm512_loadu_ps(values.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, values: __m512, to: &mut [f32; 16]) {
        // SAFETY: the processor has AVX-512; 16 floats are written, as many as `to` has.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), values) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the processor has AVX-512.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the processor has AVX-512.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the processor has AVX-512.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the processor has AVX-512.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the processor has AVX-512.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
}
