//! All values of one tensor, collected as its bytes arrive in pieces of any length.

use super::dtype::Decoder;
use super::tensor_info::TensorInfo;
use crate::error::{Error, Result};
use crate::memory;

/// The floats of a tensor as finite `f32`, row-major.
#[derive(Debug)]
pub struct Floats {
    decoder: Decoder,
    values: Vec<f32>,
    numel: usize,
}

impl Floats {
    /// Makes room for all of a tensor.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if its elements are no floats, [`ErrorKind::OutOfMemory`] if it
    /// does not fit.
    pub fn new(info: &TensorInfo) -> Result<Self> {
        let (values, numel) = empty(info)?;
        Ok(Self {
            decoder: Decoder::new(info.dtype)?,
            values,
            numel,
        })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if a value is not finite.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.decoder.push(bytes, &mut self.values)
    }

    /// The values, as many as the shape holds.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if there are more or fewer.
    pub fn finish(self) -> Result<Vec<f32>> {
        self.decoder.finish()?;
        whole(self.values, self.numel)
    }
}

/// The little-endian 32-bit words of a tensor, row-major.
#[derive(Debug)]
pub struct Words {
    values: Vec<u32>,
    /// The first bytes of a word whose rest has not arrived.
    partial: [u8; 4],
    held: usize,
    numel: usize,
}

impl Words {
    /// Makes room for all of a tensor.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`] if it does not fit.
    pub fn new(info: &TensorInfo) -> Result<Self> {
        let (values, numel) = empty(info)?;
        Ok(Self {
            values,
            partial: [0; 4],
            held: 0,
            numel,
        })
    }

    /// Takes the next bytes.
    pub fn push(&mut self, mut bytes: &[u8]) {
        if self.held > 0 {
            let (head, rest) = bytes.split_at(bytes.len().min(4 - self.held));
            for (to, byte) in self.partial.iter_mut().skip(self.held).zip(head) {
                *to = *byte;
            }
            self.held += head.len();
            bytes = rest;
            if self.held < 4 {
                return;
            }
            self.held = 0;
            self.values.push(u32::from_le_bytes(self.partial));
        }
        let (words, rest) = bytes.as_chunks();
        self.values
            .extend(words.iter().map(|&word| u32::from_le_bytes(word)));
        for (to, byte) in self.partial.iter_mut().zip(rest) {
            *to = *byte;
        }
        self.held = rest.len();
    }

    /// The words, as many as the shape holds.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if there are more or fewer.
    pub fn finish(self) -> Result<Vec<u32>> {
        if self.held > 0 {
            return Err(Error::format(format!(
                "its data end inside element {}: download the file again",
                self.values.len()
            )));
        }
        whole(self.values, self.numel)
    }
}

/// An empty vector with room for a tensor, and how many elements that are.
fn empty<T>(info: &TensorInfo) -> Result<(Vec<T>, usize)> {
    let numel = usize::try_from(info.numel()).ok();
    Ok((memory::with_capacity(numel)?, numel.unwrap_or(usize::MAX)))
}

fn whole<T>(values: Vec<T>, numel: usize) -> Result<Vec<T>> {
    if values.len() == numel {
        return Ok(values);
    }
    Err(Error::format(format!(
        "holds {} elements, its shape needs {numel}: download the file again",
        values.len()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::weights::checkpoint::dtype::Dtype;

    #[test]
    fn words_are_the_same_however_they_are_cut() {
        let bytes: Vec<u8> = (0..40).collect();
        let info = TensorInfo {
            name: "x".to_owned(),
            dtype: Dtype::U32,
            shape: vec![2, 5],
        };
        for size in 1..=bytes.len() {
            let mut words = Words::new(&info).unwrap();
            for piece in bytes.chunks(size) {
                words.push(piece);
            }
            let words = words.finish().unwrap();
            assert_eq!(words[0], 0x0302_0100);
            assert_eq!(words[9], 0x2726_2524);
        }
        for end in [0, 36, 39] {
            let mut words = Words::new(&info).unwrap();
            words.push(&bytes[..end]);
            assert_eq!(words.finish().unwrap_err().kind(), ErrorKind::Format);
        }
    }
}
