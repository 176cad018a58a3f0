//! The files that models are published in, through one interface.
//!
//! | file | idea |
//! |---|---|
//! | [`dtype`] | element types, and bytes to `f32` as they arrive |
//! | [`tensor_info`] | what a file says about a tensor |
//! | `collect` | the values of one tensor, as its bytes arrive |
//! | [`content`] | what a file is, by its first bytes |
//! | [`contents`] | what a file holds and where, whoever reads it |
//! | [`safetensors`] | the header of a safetensors file |
//! | [`torch`] | what `torch.save` writes, without running any of it |
//! | `record`, `view` | the bytes of a storage as they arrive, and a tensor's part of them |
//! | `local`, `inflate` | natively: files on this machine, and records that are compressed |

pub(super) mod collect;
pub mod content;
pub mod contents;
pub mod dtype;
#[cfg(not(target_family = "wasm"))]
mod inflate;
#[cfg(not(target_family = "wasm"))]
pub(super) mod local;
pub(super) mod record;
pub mod safetensors;
pub mod tensor_info;
pub mod torch;
pub(super) mod view;

#[cfg(not(target_family = "wasm"))]
pub use local::{open, open_reader};

use self::collect::Floats;
use self::tensor_info::TensorInfo;
use crate::error::{At, Error, Result, printable};

/// The most bytes that [`Checkpoint::read`] hands over at once: 1 MiB.
pub const PIECE: usize = 1 << 20;

/// An open checkpoint file: its tensors, and their data on demand.
pub trait Checkpoint: Send {
    /// The tensors, in the order of the file: of their data in safetensors, of the state dict in
    /// a `.pth`.
    fn tensors(&self) -> &[TensorInfo];

    /// The file, for messages.
    fn name(&self) -> &str;

    /// Reads the tensor at `index` of [`tensors`](Self::tensors) and passes its elements,
    /// row-major and little-endian, to `sink` in pieces of at most [`PIECE`] bytes.
    ///
    /// A piece may end inside an element. Checksums are known to hold only when this returns
    /// `Ok`: drop what arrived otherwise.
    ///
    /// # Errors
    /// [`ErrorKind::Option`](crate::ErrorKind::Option) if there is no such index;
    /// [`ErrorKind::Integrity`](crate::ErrorKind::Integrity) if the file can't be read, ends early
    /// or fails its checksum; [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a view
    /// that would take far more memory than its data. Each names the file and the tensor. What
    /// `sink` returns is passed on as it is.
    fn read(&mut self, index: usize, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>;

    /// Reads the tensor at `index` as finite `f32`, row-major: the product of its shape many.
    ///
    /// # Errors
    /// As [`read`](Self::read);
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for elements that aren't floats;
    /// [`ErrorKind::Format`](crate::ErrorKind::Format) for a NaN or an infinity;
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory).
    fn read_f32(&mut self, index: usize) -> Result<Vec<f32>> {
        let Some(info) = self.tensors().get(index) else {
            return Err(no_such_tensor(self.name(), index));
        };
        let place = place(self.name(), &info.name);
        let mut values = Floats::new(info).at(&place)?;
        self.read(index, &mut |piece| values.push(piece).at(&place))?;
        values.finish().at(&place)
    }
}

/// `file: tensor NAME`, for messages.
pub(super) fn place(file: &str, tensor: &str) -> String {
    format!("{file}: tensor {}", printable(tensor))
}

pub(super) fn no_such_tensor(file: &str, index: usize) -> Error {
    Error::option(format!("{file}: there is no tensor with index {index}"))
}

#[cfg(not(target_family = "wasm"))]
pub(super) fn unreadable(error: &std::io::Error) -> Error {
    Error::new(
        crate::error::ErrorKind::Integrity,
        printable(&format!("reading failed: {error}")),
    )
}
