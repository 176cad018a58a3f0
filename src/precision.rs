//! How precisely a model's matrices are kept: what a caller asks for, and what becomes of it.

use std::fmt;
use std::str::FromStr;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::quant::{Bits, Scheme};

/// What a caller asks for: `fp32`, `fp16`, `q8`, `q4` or `auto`.
///
/// It is about the weights of linear layers, which are nearly all of a model. Everything else, and
/// all arithmetic, is f32.
///
/// | asked | the checkpoint is float | it is quantised |
/// |---|---|---|
/// | `fp32` | f32 | dequantised to f32 |
/// | `fp16` | f16 on a GPU, f32 on a CPU | dequantised to the same |
/// | `q8` | quantised to 8 bits | as stored: more bits bring nothing back |
/// | `q4` | quantised to 4 bits | as stored; 8 bits are quantised anew to 4 |
/// | `auto` | the first of the above that fits, see [`WeightFormat::of`] | as stored |
///
/// Quantising takes groups of 64, or of 32 where rows don't fall into groups of 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// As stored, as long as that fits the device.
    #[default]
    Auto,
    /// 32-bit floats.
    Fp32,
    /// 16-bit floats where the device takes them, else 32-bit ones.
    Fp16,
    /// 8 bits a weight.
    Q8,
    /// 4 bits a weight.
    Q4,
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Auto, Self::Fp32, Self::Fp16, Self::Q8, Self::Q4];

    /// Its name: `auto`, `fp32`, `fp16`, `q8` or `q4`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|precision| precision.name() == text)
            .ok_or_else(|| {
                let names = Self::ALL.map(Self::name).join(", ");
                Error::option(format!("no dtype is called {text:?}; there are {names}"))
            })
    }
}

/// What weights a kind of device takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightSupport {
    /// Whether it takes matrices of f16.
    pub halves: bool,
    /// The bytes that `auto` may fill with matrices; `None` if the machine's memory is the limit.
    pub budget: Option<u64>,
}

/// What the matrices of a model become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightFormat {
    /// 32-bit floats.
    Fp32,
    /// 16-bit floats.
    Fp16,
    /// Codes of 4 or 8 bits.
    Quantised(Scheme),
}

impl WeightFormat {
    /// What the matrices of the probe and of the first `blocks` blocks become on a device of this support.
    ///
    /// `auto` takes what is stored if the checkpoint is quantised, else the first of f32, f16 (if
    /// the device takes it), 8 and 4 bits that is within its budget, and 4 bits if none is.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if rows are to be quantised that
    /// don't fall into whole groups: [`Scheme::for_rows`].
    pub fn of(
        asked: Precision,
        config: &Config,
        blocks: usize,
        support: WeightSupport,
    ) -> Result<Self> {
        let quantise = |bits| Scheme::for_rows(bits, config.embed_dim).map(Self::Quantised);
        match (asked, config.quantization) {
            (Precision::Fp16, _) if support.halves => Ok(Self::Fp16),
            (Precision::Fp32 | Precision::Fp16, _) => Ok(Self::Fp32),
            (Precision::Auto | Precision::Q8, Some(stored)) => Ok(Self::Quantised(stored)),
            (Precision::Q4, Some(stored)) if stored.bits() == Bits::Four => {
                Ok(Self::Quantised(stored))
            }
            (Precision::Q4, _) => quantise(Bits::Four),
            (Precision::Q8, None) => quantise(Bits::Eight),
            (Precision::Auto, None) => {
                let Some(budget) = support.budget else {
                    return Ok(Self::Fp32);
                };
                let weights = weights(config, blocks);
                let fits = |form: &Self| form.bytes(weights) <= budget;
                let mut forms = vec![Self::Fp32];
                forms.extend(support.halves.then_some(Self::Fp16));
                for bits in [Bits::Eight, Bits::Four] {
                    forms.extend(quantise(bits));
                }
                let smallest = forms.last().copied().unwrap_or(Self::Fp32);
                Ok(forms.into_iter().find(fits).unwrap_or(smallest))
            }
        }
    }

    /// The precision that a caller would ask for to get this.
    pub const fn precision(self) -> Precision {
        match self {
            Self::Fp32 => Precision::Fp32,
            Self::Fp16 => Precision::Fp16,
            Self::Quantised(scheme) => match scheme.bits() {
                Bits::Four => Precision::Q4,
                Bits::Eight => Precision::Q8,
            },
        }
    }

    /// The bytes of the matrices of the probe and of the first `blocks` blocks.
    pub const fn weight_bytes(self, config: &Config, blocks: usize) -> u64 {
        self.bytes(weights(config, blocks))
    }

    /// Bytes of so many weights.
    const fn bytes(self, weights: u64) -> u64 {
        match self {
            Self::Fp32 => weights.saturating_mul(4),
            Self::Fp16 => weights.saturating_mul(2),
            Self::Quantised(scheme) => {
                let groups = weights / scheme.group_size() as u64;
                (weights / 8)
                    .saturating_mul(scheme.bits().get() as u64)
                    .saturating_add(groups.saturating_mul(4))
            }
        }
    }
}

/// The weights in the matrices of the probe and of `blocks` blocks.
const fn weights(config: &Config, blocks: usize) -> u64 {
    let dim = config.embed_dim as u64;
    // qkv, proj, fc1 and fc2 have 3, 1, 4 and 4 times D x D; the probe's k and v have one each.
    let square = dim.saturating_mul(dim);
    square
        .saturating_mul(12)
        .saturating_mul(blocks as u64)
        .saturating_add(square.saturating_mul(2))
        .saturating_add(dim.saturating_mul(config.num_classes as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Family;
    use crate::error::ErrorKind;

    const CPU: WeightSupport = WeightSupport {
        halves: false,
        budget: None,
    };
    const PAGE: WeightSupport = WeightSupport {
        halves: true,
        budget: Some(1 << 30),
    };

    fn of(asked: Precision, config: &Config, support: WeightSupport) -> Precision {
        let form = WeightFormat::of(asked, config, config.blocks_to_run(), support).unwrap();
        form.precision()
    }

    #[test]
    fn names_are_read_back() {
        for precision in Precision::ALL {
            assert_eq!(precision.name().parse::<Precision>().unwrap(), precision);
        }
        assert_eq!(
            "int8".parse::<Precision>().unwrap_err().kind(),
            ErrorKind::Option
        );
    }

    #[test]
    fn float_checkpoints_become_what_was_asked_for() {
        let config = Family::Aim600M.config();
        for asked in [Precision::Fp32, Precision::Q8, Precision::Q4] {
            assert_eq!(of(asked, &config, CPU), asked);
            assert_eq!(of(asked, &config, PAGE), asked);
        }
        assert_eq!(of(Precision::Fp16, &config, CPU), Precision::Fp32);
        assert_eq!(of(Precision::Fp16, &config, PAGE), Precision::Fp16);
    }

    #[test]
    fn quantised_checkpoints_stay_as_they_are_unless_less_is_asked_for() {
        let mut config = Family::Aim600M.config();
        let (q4, q8) = (Scheme::new(4, 128).unwrap(), Scheme::new(8, 32).unwrap());
        for (stored, asked, wanted) in [
            (q4, Precision::Auto, WeightFormat::Quantised(q4)),
            (q8, Precision::Auto, WeightFormat::Quantised(q8)),
            (q4, Precision::Q4, WeightFormat::Quantised(q4)),
            (q8, Precision::Q8, WeightFormat::Quantised(q8)),
            (q4, Precision::Q8, WeightFormat::Quantised(q4)),
            (q8, Precision::Q4, WeightFormat::Quantised(Scheme::Q4)),
            (q4, Precision::Fp32, WeightFormat::Fp32),
            (q4, Precision::Fp16, WeightFormat::Fp16),
        ] {
            config.quantization = Some(stored);
            assert_eq!(WeightFormat::of(asked, &config, 24, PAGE).unwrap(), wanted);
        }
    }

    #[test]
    fn auto_takes_what_fits() {
        let auto = |family: Family, support| of(Precision::Auto, &family.config(), support);
        assert_eq!(auto(Family::Aim7B, CPU), Precision::Fp32);
        assert_eq!(auto(Family::Aim600M, PAGE), Precision::Q8);
        assert_eq!(auto(Family::Aim1B, PAGE), Precision::Q8);
        assert_eq!(auto(Family::Aim3B, PAGE), Precision::Q4);
        // Not within a GiB in any form.
        assert_eq!(auto(Family::Aim7B, PAGE), Precision::Q4);
        for (halves, wanted) in [(true, Precision::Fp16), (false, Precision::Q8)] {
            let support = WeightSupport {
                halves,
                budget: Some(2 << 30),
            };
            assert_eq!(auto(Family::Aim600M, support), wanted);
        }
    }

    #[test]
    fn rows_that_fall_into_no_groups_are_refused() {
        let mut config = Family::Aim600M.config();
        config.embed_dim = 96;
        assert_eq!(
            WeightFormat::of(Precision::Q4, &config, 1, CPU).unwrap(),
            WeightFormat::Quantised(Scheme::new(4, 32).unwrap())
        );
        config.embed_dim = 4;
        assert_eq!(
            WeightFormat::of(Precision::Q4, &config, 1, CPU)
                .unwrap_err()
                .kind(),
            ErrorKind::Unsupported
        );
        let tight = WeightSupport {
            halves: false,
            budget: Some(1),
        };
        assert_eq!(of(Precision::Auto, &config, tight), Precision::Fp32);
    }
}
