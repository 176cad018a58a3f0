//! What a kernel asks of an instruction set.
//!
//! Activations and weights come in words of 32 bits, each of which holds the [`STEP`](Isa::STEP) neighbours in a row
//! that one instruction multiplies and adds up: four of 8 bits or two of 16. A vector holds such words of `L` rows of
//! `W`, and meets one word of `x`, repeated.

/// Added to a number of magnitude up to 2^22, it leaves the nearest whole number, ties to even, in the low bits of the
/// sum, above the bits of `MAGIC` itself.
pub(super) const MAGIC: f32 = 12_582_912.0;

/// An instruction set with vectors of `L` words. A value of it is the proof that this machine has it.
pub(super) trait Isa<const L: usize>: Copy {
    /// Neighbours in a word: 4, each of 8 bits, or 2, each of 16.
    const STEP: usize;

    /// Whether 8-bit codes are stored less 128, for an instruction that takes them as signed.
    const SIGNED: bool;

    /// Columns after which dots must be taken out, lest they overflow: a divisor of every group size, or the largest.
    const SPAN: usize;

    /// Words of weights.
    type Weights: Copy;
    /// A word of activations, repeated.
    type Input: Copy;
    /// Sums of products, of up to [`SPAN`](Self::SPAN) columns.
    type Dots: Copy;
    /// Sums of products.
    type Ints: Copy;
    /// Floats, one for each sum.
    type Floats: Copy;

    fn weights(self, words: &[u32; L]) -> Self::Weights;
    fn input(self, word: u32) -> Self::Input;
    fn zero(self) -> Self::Dots;
    /// Adds the products of the neighbours in each word.
    fn dot(self, sums: Self::Dots, weights: Self::Weights, input: Self::Input) -> Self::Dots;
    fn ints(self, dots: Self::Dots) -> Self::Ints;
    fn add_ints(self, a: Self::Ints, b: Self::Ints) -> Self::Ints;
    fn floats(self, sums: Self::Ints) -> Self::Floats;
    /// Of numbers of the form `MAGIC + n` the whole numbers `n`.
    fn wholes(self, raised: Self::Floats) -> Self::Ints;
    /// Whole numbers, in order and each in `32 / STEP` bits, which they fit.
    ///
    /// - `words`: `[2 * L / STEP]`, overwritten
    fn pack(self, wholes: [Self::Ints; 2], words: &mut [u32]);

    fn splat(self, value: f32) -> Self::Floats;
    fn load(self, values: &[f32; L]) -> Self::Floats;
    fn store(self, values: Self::Floats, to: &mut [f32; L]);
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The lesser, of numbers.
    fn min(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The greater, of numbers.
    fn max(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b + c`
    fn mul_add(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
}

/// A computation to be compiled for an instruction set: `V` vectors of `L` words are a panel, which meets `R` rows of
/// `x` at once.
///
/// It and all that it calls must be `inline(always)`, without closures.
pub(super) trait Task {
    fn run<I: Isa<L>, const L: usize, const V: usize, const R: usize>(self, isa: I);
}
