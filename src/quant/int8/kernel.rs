//! Which instructions multiply.

use super::isa::{Isa, Task};
#[cfg(target_arch = "aarch64")]
use super::neon::NeonDot;
use super::portable::Portable;
#[cfg(all(target_family = "wasm", feature = "relaxed-simd"))]
use super::wasm::RelaxedDot;
#[cfg(target_family = "wasm")]
use super::wasm::Simd128;
#[cfg(target_arch = "x86_64")]
use super::x86::{Avx2Narrow, Avx2Wide, Avx512Vnni, AvxVnni};
use crate::quant::Bits;

/// The instructions that multiply, the best first where several of a processor's serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// x86: `vpdpbusd` on 512 bits.
    Avx512Vnni,
    /// x86: `vpdpbusd` on 256 bits.
    AvxVnni,
    /// x86: `vpmaddwd` with 8-bit codes and 16-bit activations, `vpmaddubsw` with 4-bit codes.
    Avx2,
    /// ARM: `sdot`.
    NeonDot,
    /// Relaxed SIMD's dot product, where it takes 8-bit codes as unsigned.
    RelaxedUnsigned,
    /// Relaxed SIMD's dot product, where it takes 8-bit codes as signed.
    RelaxedSigned,
    /// WebAssembly's simd128: `i32x4.dot_i16x8_s`, with 16-bit activations.
    Simd128,
    /// Plain Rust, codes unsigned.
    Portable,
    /// Plain Rust, codes signed.
    PortableSigned,
}

impl Kernel {
    /// All of them, the best first.
    pub const ALL: [Self; 9] = [
        Self::Avx512Vnni,
        Self::AvxVnni,
        Self::Avx2,
        Self::NeonDot,
        Self::RelaxedUnsigned,
        Self::RelaxedSigned,
        Self::Simd128,
        Self::Portable,
        Self::PortableSigned,
    ];

    /// What it is called in `aim.info`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Avx512Vnni => "AVX-512 VNNI",
            Self::AvxVnni => "AVX-VNNI",
            Self::Avx2 => "AVX2",
            Self::NeonDot => "NEON dot",
            Self::RelaxedUnsigned => "relaxed dot, unsigned",
            Self::RelaxedSigned => "relaxed dot, signed",
            Self::Simd128 => "simd128",
            Self::Portable => "portable, unsigned",
            Self::PortableSigned => "portable, signed",
        }
    }

    /// The best that this machine has for codes of so many bits. In WebAssembly a few products are tried.
    pub fn best(bits: Bits) -> Self {
        Self::ALL
            .into_iter()
            .find(|kernel| kernel.is_available(bits))
            .unwrap_or(Self::Portable)
    }

    /// Whether this machine and this build have it, for codes of so many bits.
    pub fn is_available(self, bits: Bits) -> bool {
        Proven::new(self, bits).is_some()
    }
}

/// How a kernel wants its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PanelLayout {
    /// See [`Isa::STEP`].
    pub step: usize,
    /// See [`Isa::SIGNED`].
    pub signed: bool,
    /// Rows of `W` in a panel.
    pub columns: usize,
    /// Rows of `x` in a block.
    pub rows: usize,
}

/// A kernel that this machine has.
#[derive(Clone, Copy, Debug)]
pub(super) enum Proven {
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(Avx512Vnni),
    #[cfg(target_arch = "x86_64")]
    AvxVnni(AvxVnni),
    #[cfg(target_arch = "x86_64")]
    Avx2Wide(Avx2Wide),
    #[cfg(target_arch = "x86_64")]
    Avx2Narrow(Avx2Narrow),
    #[cfg(target_arch = "aarch64")]
    NeonDot(NeonDot),
    #[cfg(all(target_family = "wasm", feature = "relaxed-simd"))]
    RelaxedUnsigned(RelaxedDot<false>),
    #[cfg(all(target_family = "wasm", feature = "relaxed-simd"))]
    RelaxedSigned(RelaxedDot<true>),
    #[cfg(target_family = "wasm")]
    Simd128(Simd128),
    Portable(Portable<false>),
    PortableSigned(Portable<true>),
}

impl Proven {
    /// `None` where this machine or this build does not have it.
    #[allow(unused_variables)] // Some builds have one kernel for both.
    pub(super) fn new(kernel: Kernel, bits: Bits) -> Option<Self> {
        match kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512Vnni => Avx512Vnni::new().map(Self::Avx512Vnni),
            #[cfg(target_arch = "x86_64")]
            Kernel::AvxVnni => AvxVnni::new().map(Self::AvxVnni),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => match bits {
                Bits::Four => Avx2Narrow::new().map(Self::Avx2Narrow),
                Bits::Eight => Avx2Wide::new().map(Self::Avx2Wide),
            },
            #[cfg(target_arch = "aarch64")]
            Kernel::NeonDot => NeonDot::new().map(Self::NeonDot),
            #[cfg(all(target_family = "wasm", feature = "relaxed-simd"))]
            Kernel::RelaxedUnsigned => RelaxedDot::new(bits).map(Self::RelaxedUnsigned),
            #[cfg(all(target_family = "wasm", feature = "relaxed-simd"))]
            Kernel::RelaxedSigned => RelaxedDot::new(bits).map(Self::RelaxedSigned),
            #[cfg(target_family = "wasm")]
            Kernel::Simd128 => Some(Self::Simd128(Simd128)),
            Kernel::Portable => Some(Self::Portable(Portable)),
            Kernel::PortableSigned => Some(Self::PortableSigned(Portable)),
            #[allow(unreachable_patterns)] // None is left out on some processor.
            _ => None,
        }
    }

    /// Runs a task compiled for the kernel's instructions.
    pub(super) fn vectorize(self, task: impl Task) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni(isa) => isa.vectorize(task),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni(isa) => isa.vectorize(task),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Wide(isa) => isa.vectorize(task),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Narrow(isa) => isa.vectorize(task),
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot(isa) => isa.vectorize(task),
            #[cfg(all(target_family = "wasm", feature = "relaxed-simd"))]
            Self::RelaxedUnsigned(isa) => isa.vectorize(task),
            #[cfg(all(target_family = "wasm", feature = "relaxed-simd"))]
            Self::RelaxedSigned(isa) => isa.vectorize(task),
            #[cfg(target_family = "wasm")]
            Self::Simd128(isa) => isa.vectorize(task),
            Self::Portable(isa) => isa.vectorize(task),
            Self::PortableSigned(isa) => isa.vectorize(task),
        }
    }

    /// How it wants its operands.
    pub(super) fn layout(self) -> PanelLayout {
        struct Ask<'a>(&'a mut PanelLayout);
        impl Task for Ask<'_> {
            #[inline(always)]
            fn run<I: Isa<L>, const L: usize, const V: usize, const R: usize>(self, _: I) {
                *self.0 = PanelLayout {
                    step: I::STEP,
                    signed: I::SIGNED,
                    columns: L * V,
                    rows: R,
                };
            }
        }
        let mut layout = PanelLayout {
            step: 4,
            signed: false,
            columns: 1,
            rows: 1,
        };
        self.vectorize(Ask(&mut layout));
        layout
    }
}
