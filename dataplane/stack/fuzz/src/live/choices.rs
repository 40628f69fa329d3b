//! The input, read.

/// The input as a list of choices; when it is used up every choice is 0.
pub(super) struct Choices<'i> {
    pub(super) bytes: &'i [u8],
    pub(super) at: usize,
}

impl Choices<'_> {
    pub(super) fn are_over(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        byte
    }

    /// 0 to `bound` - 1.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let wide = if bound > 256 { 2 } else { 1 };
        let number = (0..wide).fold(0, |number, _| number << 8 | usize::from(self.byte()));
        number % bound
    }

    pub(super) fn word(&mut self) -> u32 {
        (0..4).fold(0, |word, _| word << 8 | u32::from(self.byte()))
    }

    pub(super) fn some(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.byte()).collect()
    }
}
