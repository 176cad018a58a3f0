//! What a file is, by its first bytes.

/// How many of a file's first bytes [`Content::of`] looks at.
pub const CONTENT_BYTES: usize = 512;

/// The longest header of a safetensors file, in bytes: the limit of the format.
pub const MAX_HEADER: u64 = 100_000_000;

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
