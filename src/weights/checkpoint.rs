//! One interface to every kind of checkpoint file, chosen by content and not by name.

use super::dtype::{Decoder, Dtype};
use super::safetensors::MAX_HEADER;
use crate::error::{At, Error, Result};

/// The most bytes that [`Checkpoint::read`] hands over at once: 1 MiB.
pub const PIECE: usize = 1 << 20;

/// What a checkpoint says about one tensor, without its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its key in the file, such as `trunk.blocks.0.norm_1.weight`.
    ///
    /// Comes from the file: pass it through [`printable`] before showing it.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its sizes, outermost first; the product times the element size fits in 64 bits.
    pub shape: Vec<usize>,
}

impl TensorInfo {
    /// How many elements it has.
    pub fn numel(&self) -> u64 {
        numel(&self.shape).unwrap_or(u64::MAX)
    }

    /// How many bytes they take.
    pub fn bytes(&self) -> u64 {
        self.dtype.bytes_of(self.numel()).unwrap_or(u64::MAX)
    }
}

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
    /// Those of [`read`](Self::read);
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for elements that aren't floats;
    /// [`ErrorKind::Format`](crate::ErrorKind::Format) for a NaN or an infinity;
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory).
    fn read_f32(&mut self, index: usize) -> Result<Vec<f32>> {
        let Some(info) = self.tensors().get(index) else {
            return Err(no_such_tensor(self.name(), index));
        };
        let place = place(self.name(), &info.name);
        let numel = numel(&info.shape).ok_or_else(|| too_large(&place))?;
        let mut decoder = Decoder::new(info.dtype).at(&place)?;
        let mut values = Vec::new();
        values
            .try_reserve_exact(usize::try_from(numel).map_err(|_| too_large(&place))?)
            .map_err(|_| too_large(&place))?;
        self.read(index, &mut |piece| {
            decoder.push(piece, &mut values).at(&place)
        })?;
        let read = decoder.finish().at(&place)?;
        if read != numel {
            return Err(Error::format(format!(
                "holds {read} elements, its shape needs {numel}: download the file again"
            ))
            .at(&place));
        }
        Ok(values)
    }
}

/// Opens a checkpoint file: safetensors, or what `torch.save` writes. Reads headers only.
///
/// # Errors
/// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the file can't be opened; otherwise those
/// of [`open_reader`].
#[cfg(not(target_family = "wasm"))]
pub fn open(path: &std::path::Path) -> Result<Box<dyn Checkpoint>> {
    let name = printable(&path.display().to_string());
    let file = std::fs::File::open(path).map_err(|error| {
        Error::not_found(format!("{name}: can't be opened: {error}")).with_source(error)
    })?;
    if file.metadata().is_ok_and(|meta| meta.is_dir()) {
        return Err(Error::not_found(format!(
            "{name}: is a directory: name the checkpoint file in it"
        )));
    }
    open_reader(std::io::BufReader::with_capacity(1 << 16, file), &name)
}

/// Opens a checkpoint from anything that can be read and sought; `name` is for messages.
///
/// # Errors
/// [`ErrorKind::Format`](crate::ErrorKind::Format) if it is no checkpoint or breaks the format;
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if it is well formed but of a kind
/// that isn't read; [`ErrorKind::Integrity`](crate::ErrorKind::Integrity) if reading fails or a
/// checksum is wrong.
#[cfg(not(target_family = "wasm"))]
pub fn open_reader<R>(mut reader: R, name: &str) -> Result<Box<dyn Checkpoint>>
where
    R: std::io::Read + std::io::Seek + Send + 'static,
{
    use std::io::SeekFrom;

    let first = (|| {
        let len = reader.seek(SeekFrom::End(0))?;
        reader.seek(SeekFrom::Start(0))?;
        let mut first = Vec::new();
        std::io::Read::read_to_end(
            &mut std::io::Read::take(&mut reader, CONTENT_BYTES as u64),
            &mut first,
        )?;
        Ok((first, len))
    })();
    let (first, len) = first.map_err(|error| unreadable(&error)).at(name)?;
    match Content::of(&first, len) {
        Content::Zip => Ok(Box::new(super::pth::Pth::new(reader, name)?)),
        Content::Unknown | Content::Safetensors => Ok(Box::new(
            super::safetensors::Safetensors::new(reader, name)?,
        )),
        Content::Other(what) => Err(Error::format(format!("{name}: {what}"))),
    }
}

/// How many of a file's first bytes [`Content::of`] looks at.
pub const CONTENT_BYTES: usize = 512;

/// What a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The start of a safetensors header.
    Safetensors,
    /// A zip archive, as `torch.save` writes since PyTorch 1.6.
    Zip,
    /// Known, and no checkpoint that can be read: a sentence that says what it is and what to do.
    Other(&'static str),
    /// None of these.
    Unknown,
}

impl Content {
    /// Judges a file of `len` bytes by its first bytes: [`CONTENT_BYTES`] or all of it if there
    /// are that many, nine at least for a sure answer.
    pub fn of(first: &[u8], len: u64) -> Self {
        if len == 0 {
            return Self::Other("the file is empty: download it again");
        }
        // A header's length can look like anything below, a number or two of text included, so
        // this must come first: a length within the limit, then an opening brace.
        match first.first_chunk().map(|n| u64::from_le_bytes(*n)) {
            Some(1..=MAX_HEADER) if matches!(first.get(8), None | Some(b'{')) => {
                return Self::Safetensors;
            }
            None if len >= 8 => return Self::Unknown,
            _ => {}
        }
        if first.starts_with(b"PK\x03\x04") {
            return Self::Zip;
        }
        for (magic, what) in MAGIC {
            if first.starts_with(magic) {
                return Self::Other(what);
            }
        }
        if let [0x80, 2..=5, ..] = first {
            return Self::Other(
                "a bare pickle, saved before PyTorch 1.6: load it in Python and save it again with torch.save",
            );
        }
        let text = first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first);
        match text.trim_ascii_start() {
            [b'<', ..] => Self::Other(
                "not a checkpoint but an HTML or XML page, perhaps a server's error message: check the address and download it again",
            ),
            [b'{' | b'[', ..] => Self::Other(
                "not a checkpoint but a JSON text, perhaps a server's error message or an index: name the checkpoint itself",
            ),
            [_, ..]
                if text
                    .iter()
                    .all(|b| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..0x7f)) =>
            {
                Self::Other("not a checkpoint but a text: download the checkpoint again")
            }
            _ => Self::Unknown,
        }
    }
}

/// First bytes of files that come in place of checkpoints.
const MAGIC: [(&[u8], &str); 7] = [
    // Eight bytes of it tell, so that a streaming reader may stop there.
    (
        b"version ",
        "a git-lfs pointer, not the weights: run `git lfs pull`, or download the file itself",
    ),
    (b"\x1f\x8b", "compressed by gzip: unpack it first"),
    (b"GGUF", "a GGUF file: only safetensors and .pth are read"),
    (
        b"\x89HDF",
        "an HDF5 (Keras) file: only safetensors and .pth are read",
    ),
    (
        b"\x93NUMPY",
        "a NumPy array: only safetensors and .pth are read",
    ),
    (b"PK\x05\x06", "an empty zip archive: download it again"),
    (b"7z\xbc\xaf", "compressed by 7-Zip: unpack it first"),
];

/// A text from a file made fit for a message: one line, no control characters, at most 200
/// characters.
pub fn printable(text: &str) -> String {
    const MOST: usize = 200;
    let mut line = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == MOST {
            line.push('…');
            break;
        }
        // Marks that reorder or hide text would let a file's name lie in a terminal.
        if c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        {
            line.extend(c.escape_unicode());
        } else {
            line.push(c);
        }
    }
    line
}

/// `file: tensor NAME`, for messages.
pub(super) fn place(file: &str, tensor: &str) -> String {
    format!("{file}: tensor {}", printable(tensor))
}

/// The product of a shape, if it fits.
pub(super) fn numel(shape: &[usize]) -> Option<u64> {
    shape.iter().try_fold(1_u64, |product, &d| {
        product.checked_mul(u64::try_from(d).ok()?)
    })
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

fn too_large(place: &str) -> Error {
    Error::new(
        crate::error::ErrorKind::OutOfMemory,
        format!("{place}: does not fit in memory"),
    )
}
