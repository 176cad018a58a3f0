//! How a matrix is quantised: bits a code, weights a group, and the sizes that follow from them.

use serde_json::Value;

use crate::error::{Error, Result};

/// Bits of one code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bits {
    /// Codes 0 to 15, eight to a word.
    Four,
    /// Codes 0 to 255, four to a word.
    Eight,
}

impl Bits {
    /// 4 or 8; `None` for another number.
    pub const fn new(bits: usize) -> Option<Self> {
        match bits {
            4 => Some(Self::Four),
            8 => Some(Self::Eight),
            _ => None,
        }
    }

    /// 4 or 8.
    pub const fn get(self) -> usize {
        match self {
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    /// The largest code: 15 or 255.
    pub const fn max_code(self) -> u32 {
        match self {
            Self::Four => 15,
            Self::Eight => 255,
        }
    }

    /// Codes in a 32-bit word: 8 or 4.
    pub const fn codes_per_word(self) -> usize {
        match self {
            Self::Four => 8,
            Self::Eight => 4,
        }
    }
}

/// Bits a code and weights a group, as `config.json` states them under `"quantization"`.
///
/// Source: MLX's affine quantisation (`mx.quantize`), of whose sizes this takes bits 4 and 8 and
/// all groups (32, 64, 128).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scheme {
    bits: Bits,
    group_size: usize,
}

/// The sizes of a quantised matrix `[d_output, d_input]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sizes {
    /// 32-bit words of codes in a row: `d_input * bits / 32`.
    pub words_per_row: usize,
    /// Groups in a row: `d_input / group_size`.
    pub groups_per_row: usize,
    /// Words in the matrix.
    pub words: usize,
    /// Groups in the matrix, which is the number of scales and of biases.
    pub groups: usize,
}

impl Scheme {
    /// 4 bits, groups of 64: MLX's default and ours for `q4`.
    pub const Q4: Self = Self {
        bits: Bits::Four,
        group_size: 64,
    };

    /// 8 bits, groups of 64: ours for `q8`.
    pub const Q8: Self = Self {
        bits: Bits::Eight,
        group_size: 64,
    };

    /// The largest group of any scheme.
    pub const MAX_GROUP: usize = 128;

    /// A scheme of 4 or 8 `bits` and groups of 32, 64 or 128 weights.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for other numbers.
    pub fn new(bits: usize, group_size: usize) -> Result<Self> {
        let Some(bits) = Bits::new(bits) else {
            return Err(Error::unsupported(format!(
                "quantisation to {bits} bits: 4 and 8 are supported"
            )));
        };
        if !matches!(group_size, 32 | 64 | 128) {
            return Err(Error::unsupported(format!(
                "quantisation in groups of {group_size}: 32, 64 and 128 are supported"
            )));
        }
        Ok(Self { bits, group_size })
    }

    /// The scheme to quantise rows with whose lengths are multiples of `d_input`: groups of 64, or
    /// of 32 where those of 64 would not be whole.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if those of 32 would not be either.
    pub fn for_rows(bits: Bits, d_input: usize) -> Result<Self> {
        [64, 32]
            .map(|group_size| Self { bits, group_size })
            .into_iter()
            .find(|scheme| scheme.fits(d_input))
            .ok_or_else(|| {
                Error::unsupported(format!(
                    "rows of {d_input} weights do not fall into groups of 32, so this model can't be quantised: use fp32"
                ))
            })
    }

    /// Reads the value of `"quantization"` in `config.json`: `{"group_size": 64, "bits": 4}`.
    ///
    /// MLX's newer files add `"mode": "affine"`, which is accepted.
    ///
    /// # Errors
    /// - [`ErrorKind::Format`](crate::ErrorKind::Format) if it is no object, or a number is missing
    ///   or no whole number;
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for other sizes, another mode,
    ///   or a scheme that differs from layer to layer.
    pub fn from_json(value: &Value) -> Result<Self> {
        let Some(fields) = value.as_object() else {
            return Err(Error::format(
                "\"quantization\" is not an object such as {\"group_size\": 64, \"bits\": 4}",
            ));
        };
        let number = |key: &str| {
            fields
                .get(key)
                .and_then(Value::as_u64)
                .and_then(|number| usize::try_from(number).ok())
                .ok_or_else(|| {
                    Error::format(format!("\"quantization\" has no whole number \"{key}\""))
                })
        };
        let scheme = Self::new(number("bits")?, number("group_size")?)?;
        for (key, value) in fields {
            match key.as_str() {
                "bits" | "group_size" => {}
                "mode" if value == "affine" => {}
                "mode" => {
                    return Err(Error::unsupported(
                        "\"quantization\" has another \"mode\" than \"affine\"",
                    ));
                }
                // mlx-lm states layers that differ under their names, as objects or `false`.
                _ if value.is_object() || value.is_boolean() => {
                    return Err(Error::unsupported(
                        "\"quantization\" differs from layer to layer: one scheme for all is supported",
                    ));
                }
                _ => {}
            }
        }
        Ok(scheme)
    }

    /// The value of `"quantization"` for `config.json`, as [`from_json`](Self::from_json) reads it.
    pub fn to_json(self) -> Value {
        serde_json::json!({ "group_size": self.group_size, "bits": self.bits.get() })
    }

    /// Bits of one code.
    pub const fn bits(self) -> Bits {
        self.bits
    }

    /// Neighbours in a row that share a scale and a bias: 32, 64 or 128.
    pub const fn group_size(self) -> usize {
        self.group_size
    }

    /// 32-bit words of codes in a group.
    pub const fn words_per_group(self) -> usize {
        self.group_size / self.bits.codes_per_word()
    }

    /// Whether rows of `d_input` weights fall into whole groups.
    pub const fn fits(self, d_input: usize) -> bool {
        d_input > 0 && d_input.is_multiple_of(self.group_size)
    }

    /// The sizes of a matrix `[d_output, d_input]`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if a row does not fall into whole
    /// groups (see [`fits`](Self::fits)) or the matrix passes the platform's address space.
    pub fn sizes(self, d_output: usize, d_input: usize) -> Result<Sizes> {
        if !self.fits(d_input) {
            return Err(Error::unsupported(format!(
                "rows of {d_input} weights do not fall into groups of {}",
                self.group_size
            )));
        }
        let words_per_row = d_input / self.bits.codes_per_word();
        let groups_per_row = d_input / self.group_size;
        let all = d_output
            .checked_mul(d_input)
            .and(d_output.checked_mul(words_per_row))
            .zip(d_output.checked_mul(groups_per_row));
        let Some((words, groups)) = all else {
            return Err(Error::unsupported(format!(
                "a matrix of {d_output} x {d_input} weights is too large"
            )));
        };
        Ok(Sizes {
            words_per_row,
            groups_per_row,
            words,
            groups,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn sizes_follow_from_the_scheme() {
        let sizes = Scheme::new(4, 64).unwrap().sizes(10, 384).unwrap();
        assert_eq!(
            sizes,
            Sizes {
                words_per_row: 48,
                groups_per_row: 6,
                words: 480,
                groups: 60
            }
        );
        let sizes = Scheme::new(8, 32).unwrap().sizes(3, 32).unwrap();
        assert_eq!(
            sizes,
            Sizes {
                words_per_row: 8,
                groups_per_row: 1,
                words: 24,
                groups: 3
            }
        );
    }

    #[test]
    fn rows_of_broken_groups_are_refused() {
        let scheme = Scheme::new(4, 128).unwrap();
        for d_input in [0, 1, 64, 192] {
            assert!(!scheme.fits(d_input));
            assert_eq!(
                scheme.sizes(1, d_input).unwrap_err().kind(),
                ErrorKind::Unsupported
            );
        }
        assert_eq!(
            scheme.sizes(usize::MAX, 128).unwrap_err().kind(),
            ErrorKind::Unsupported
        );
    }

    #[test]
    fn configs_are_read_and_written() {
        for bits in [4, 8] {
            for group_size in [32, 64, 128] {
                let scheme = Scheme::new(bits, group_size).unwrap();
                assert_eq!(Scheme::from_json(&scheme.to_json()).unwrap(), scheme);
            }
        }
        let mlx = json!({"group_size": 64, "bits": 4, "mode": "affine"});
        assert_eq!(Scheme::from_json(&mlx).unwrap(), Scheme::Q4);
    }

    #[test]
    fn other_configs_are_refused() {
        use ErrorKind::{Format, Unsupported};
        for (config, kind) in [
            (json!(4), Format),
            (json!({"bits": 4}), Format),
            (json!({"bits": "4", "group_size": 64}), Format),
            (json!({"bits": -4, "group_size": 64}), Format),
            (json!({"bits": 4.5, "group_size": 64}), Format),
            (json!({"bits": 3, "group_size": 64}), Unsupported),
            (json!({"bits": 4, "group_size": 16}), Unsupported),
            (
                json!({"bits": 4, "group_size": 32, "mode": "mxfp4"}),
                Unsupported,
            ),
            (
                json!({"bits": 4, "group_size": 64, "head.linear": false}),
                Unsupported,
            ),
        ] {
            assert_eq!(
                Scheme::from_json(&config).unwrap_err().kind(),
                kind,
                "{config}"
            );
        }
    }
}
