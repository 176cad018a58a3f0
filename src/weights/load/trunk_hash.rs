//! The hash by which a head recognises its trunk.

use std::collections::BTreeMap;

use crc32fast::Hasher;
use sha2::{Digest as _, Sha256};

use crate::hex::to_hex;
use crate::weights::checkpoint::tensor_info::TensorInfo;
use crate::weights::inventory::Part;

/// A hash of the trunk's tensors that are loaded, whatever file they come from and in whatever order: the SHA-256 of a
/// line for each, sorted by name, `NAME DTYPE SHAPE CRC-32`.
///
/// Every value counts, but by a checksum, which takes a tenth of the time that a cryptographic hash of gigabytes would: it
/// finds another trunk, not one that was made to look like this. What is on the way from a server is held to its own
/// hashes.
#[derive(Default)]
pub struct TrunkHasher {
    lines: BTreeMap<String, String>,
    arriving: Option<(String, String, Hasher)>,
}

impl TrunkHasher {
    /// A tensor begins, perhaps anew. Those of the head don't count.
    pub fn begin(&mut self, name: &str, part: Part, info: &TensorInfo) {
        self.arriving = (!name.starts_with("head.")).then(|| {
            let part = match part {
                Part::Whole => "",
                Part::Codes(_) => " codes",
                Part::Scales(_) => " scales",
                Part::Biases(_) => " biases",
            };
            let about = format!("{} {:?}", info.dtype, info.shape);
            (format!("{name}{part}"), about, Hasher::new())
        });
    }

    /// The next of its bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if let Some((_, _, hasher)) = &mut self.arriving {
            hasher.update(bytes);
        }
    }

    /// All its bytes were there.
    pub fn end(&mut self) {
        if let Some((name, about, hasher)) = self.arriving.take() {
            self.lines
                .insert(name, format!("{about} {:08x}", hasher.finalize()));
        }
    }

    /// The hash, in hexadecimal digits.
    pub fn finish(&self) -> String {
        let mut hasher = Sha256::new();
        for (name, about) in &self.lines {
            hasher.update(format!("{name} {about}\n"));
        }
        to_hex(&hasher.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::checkpoint::dtype::Dtype;

    fn hash(tensors: &[(&str, &[u8])]) -> String {
        let mut hasher = TrunkHasher::default();
        for (name, bytes) in tensors {
            let info = TensorInfo {
                name: "wrapped.".to_owned() + name,
                dtype: Dtype::F32,
                shape: vec![bytes.len() / 4],
            };
            // One that was damaged and comes again counts once.
            hasher.begin(name, Part::Whole, &info);
            hasher.push(b"damaged");
            hasher.begin(name, Part::Whole, &info);
            bytes.chunks(3).for_each(|piece| hasher.push(piece));
            hasher.end();
        }
        hasher.finish()
    }

    #[test]
    fn it_is_of_the_trunk_alone_and_of_all_of_it() {
        let (a, b) = (
            ("trunk.a", [1; 8].as_slice()),
            ("trunk.b", [2; 8].as_slice()),
        );
        let whole = hash(&[a, b]);
        assert_eq!(whole, hash(&[b, ("head.k.weight", &[3; 4]), a]));
        let mut changed = [2; 8];
        changed[6] ^= 1;
        for other in [
            hash(&[a]),
            hash(&[a, ("trunk.b", &changed)]),
            hash(&[a, ("trunk.c", b.1)]),
        ] {
            assert_ne!(whole, other);
        }
        assert_eq!(whole.len(), 64);
    }
}
