//! Huffman codes of JPEG (ITU T.81, annexes C and F.2.2) and the bits that they are read from.

use super::damaged;
use crate::Result;

/// Codes of at most so many bits are looked up in one step.
const LOOKUP_BITS: u32 = 9;

/// A table of codes.
#[derive(Clone)]
pub(super) struct Huffman {
    /// By the next bits: the length of the code and its symbol; length 0 for longer codes.
    lookup: [(u8, u8); 1 << LOOKUP_BITS],
    /// The largest code of each length, left-aligned to 16 bits, and one more; 0 where there is none.
    ends: [u32; 17],
    /// What to add to a code of a length for the index of its symbol.
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Huffman {
    /// From how many codes there are of each length, 1 to 16, and their symbols.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Result<Self> {
        let mut table = Self {
            lookup: [(0, 0); 1 << LOOKUP_BITS],
            ends: [0; 17],
            offsets: [0; 17],
            symbols: symbols.to_vec(),
        };
        let (mut code, mut index) = (0_u32, 0_usize);
        for (bits, &count) in (1_u32..).zip(counts) {
            let count = u32::from(count);
            if code + count > 1 << bits {
                return Err(damaged("its Huffman codes are too many"));
            }
            table.offsets[bits as usize] = index as i32 - code as i32;
            for _ in 0..count {
                let Some(&symbol) = symbols.get(index) else {
                    return Err(damaged("a Huffman table lacks symbols"));
                };
                if bits <= LOOKUP_BITS {
                    let first = (code << (LOOKUP_BITS - bits)) as usize;
                    let len = 1 << (LOOKUP_BITS - bits);
                    for entry in table.lookup.iter_mut().skip(first).take(len) {
                        *entry = (bits as u8, symbol);
                    }
                }
                code += 1;
                index += 1;
            }
            if count > 0 {
                table.ends[bits as usize] = code << (16 - bits);
            }
            code <<= 1;
        }
        Ok(table)
    }
}

/// The bits of a segment of entropy-coded data, from which stuffed zeros are gone. After the end come zeros, as
/// libjpeg has it.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// The next bits, left-aligned.
    next: u64,
    /// How many of them are there.
    count: u32,
}

impl<'a> Bits<'a> {
    pub(super) const fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            at: 0,
            next: 0,
            count: 0,
        }
    }

    /// Sees to it that 56 bits are there.
    #[inline(always)]
    fn fill(&mut self) {
        if let Some(word) = self.data.get(self.at..).and_then(<[u8]>::first_chunk::<8>) {
            self.next |= u64::from_be_bytes(*word) >> self.count;
            let bytes = (63 - self.count) >> 3;
            self.at += bytes as usize;
            self.count += bytes * 8;
            return;
        }
        while self.count <= 56 {
            let byte = self.data.get(self.at).copied().unwrap_or(0);
            self.at += 1;
            self.next |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    #[inline(always)]
    const fn skip(&mut self, count: u32) {
        self.next <<= count;
        self.count -= count;
    }

    /// The next symbol; afterwards 40 bits are still there.
    #[inline(always)]
    pub(super) fn symbol(&mut self, table: &Huffman) -> Result<u8> {
        self.fill();
        let (bits, symbol) = table.lookup[(self.next >> (64 - LOOKUP_BITS)) as usize];
        if bits > 0 {
            self.skip(u32::from(bits));
            return Ok(symbol);
        }
        self.long_symbol(table)
    }

    #[cold]
    fn long_symbol(&mut self, table: &Huffman) -> Result<u8> {
        let code = (self.next >> 48) as u32;
        for bits in LOOKUP_BITS + 1..=16 {
            if code < table.ends[bits as usize] {
                let own = (code >> (16 - bits)) as i32;
                let index = own + table.offsets[bits as usize];
                self.skip(bits);
                let symbol = usize::try_from(index)
                    .ok()
                    .and_then(|i| table.symbols.get(i));
                return symbol
                    .copied()
                    .ok_or_else(|| damaged("a code stands for nothing"));
            }
        }
        Err(damaged("a code stands for nothing"))
    }

    /// The next `count` bits, at most 16, as a number; they have to be there.
    #[inline(always)]
    const fn take(&mut self, count: u32) -> u32 {
        if count == 0 {
            return 0;
        }
        let value = (self.next >> (64 - count)) as u32;
        self.skip(count);
        value
    }

    /// The next `count` bits, at most 16, as a number.
    pub(super) fn number(&mut self, count: u32) -> u32 {
        self.fill();
        self.take(count)
    }

    /// The next bit.
    #[inline(always)]
    pub(super) fn bit(&mut self) -> bool {
        if self.count == 0 {
            self.fill();
        }
        self.take(1) == 1
    }

    /// A value of `size` bits, at most 16, after its symbol (T.81, F.2.2.1: EXTEND).
    #[inline(always)]
    pub(super) const fn value(&mut self, size: u32) -> i32 {
        if size == 0 {
            return 0;
        }
        let raw = self.take(size) as i32;
        // The upper half is positive, the lower one negative.
        if raw < 1 << (size - 1) {
            raw - (1 << size) + 1
        } else {
            raw
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_short_and_long_are_read() {
        // One code of each length.
        let symbols: Vec<u8> = (1..=16).collect();
        let table = Huffman::new(&[1; 16], &symbols).unwrap();
        // 0, 10, and fifteen ones with a zero; then a value of 3 bits: 011 is -4.
        let data = [0b0101_1111, 0b1111_1111, 0b1100_1100];
        let mut bits = Bits::new(&data);
        assert_eq!(bits.symbol(&table).unwrap(), 1);
        assert_eq!(bits.symbol(&table).unwrap(), 2);
        assert_eq!(bits.symbol(&table).unwrap(), 16);
        assert_eq!(bits.value(3), -4);
        // All ones stand for nothing; after the end come zeros.
        assert!(Bits::new(&[0xFF; 9]).symbol(&table).is_err());
        assert_eq!(bits.number(16), 0);
        let too_many = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(Huffman::new(&too_many, &[1, 2, 3]).is_err());
        assert!(Huffman::new(&[1; 16], &[1]).is_err());
    }
}
