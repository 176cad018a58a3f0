//! Numbers from the little-endian bytes of a tensor.

use half::f16;

/// Words of codes.
pub fn words(bytes: &[u8]) -> Vec<u32> {
    let words = bytes.as_chunks().0.iter();
    words.map(|&word| u32::from_le_bytes(word)).collect()
}

/// Scales or biases.
pub fn halves(bytes: &[u8]) -> Vec<f16> {
    let values = bytes.as_chunks().0.iter();
    values.map(|&value| f16::from_le_bytes(value)).collect()
}
