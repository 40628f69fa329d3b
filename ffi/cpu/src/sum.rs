//! Sums of many 16-bit words, for checksums.

/// The sum of 16-bit words, in the machine's byte order, of what of `bytes` is quickly summed, and
/// the bytes behind, which are none of them, all, or any even number between.
///
/// What is quick is found out once, at run time: with AVX2 whole blocks of 32 bytes are. The sum is
/// exact, no carry is folded into it; it fits for every slice there can be.
#[inline]
#[must_use]
pub fn sum_words(bytes: &[u8]) -> (u64, &[u8]) {
    quick::sum_words(bytes)
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod quick {
    use core::arch::x86_64::{
        __m256i, _mm_add_epi32, _mm_cvtsi128_si64, _mm_unpackhi_epi64, _mm256_add_epi32,
        _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_madd_epi16,
        _mm256_set1_epi16, _mm256_setzero_si256, _mm256_xor_si256,
    };
    use core::sync::atomic::{AtomicU8, Ordering};

    use crate::clock::cpuid;

    /// Bytes of a vector.
    const VECTOR: usize = 32;
    /// Vectors added in a turn of the loop, in chains that do not wait for each other.
    const CHAINS: usize = 4;
    /// From so many bytes on it is worth the beginning and the end.
    const WORTH: usize = VECTOR * CHAINS;
    /// Bytes after which the 32-bit sums are taken: they hold twice as many.
    const SECTION: usize = 64 << 10;
    /// What is taken off each word, so that it is signed.
    const BIAS: i16 = i16::MIN;

    /// What is known of the processor.
    const UNKNOWN: u8 = 0;
    const PLAIN: u8 = 1;
    const AVX2: u8 = 2;
    static KIND: AtomicU8 = AtomicU8::new(UNKNOWN);

    #[inline]
    pub(super) fn sum_words(bytes: &[u8]) -> (u64, &[u8]) {
        if bytes.len() < WORTH || !has_avx2() {
            return (0, bytes);
        }
        let (blocks, rest) = bytes.split_at(bytes.len() / VECTOR * VECTOR);
        // SAFETY: the processor has AVX2, and the system keeps its registers.
        let sums = blocks.chunks(SECTION).map(|section| unsafe { sum_section(section) });
        (sums.sum(), rest)
    }

    #[inline]
    fn has_avx2() -> bool {
        match KIND.load(Ordering::Relaxed) {
            UNKNOWN => ask(),
            kind => kind == AVX2,
        }
    }

    #[cold]
    fn ask() -> bool {
        const OSXSAVE_AND_AVX: u32 = 1 << 27 | 1 << 28;
        const AVX2_BIT: u32 = 1 << 5;
        const XMM_AND_YMM: u32 = 1 << 1 | 1 << 2;
        let has = cpuid(0).eax >= 7
            && cpuid(1).ecx & OSXSAVE_AND_AVX == OSXSAVE_AND_AVX
            && enabled_states() & XMM_AND_YMM == XMM_AND_YMM
            && cpuid(7).ebx & AVX2_BIT != 0;
        KIND.store(if has { AVX2 } else { PLAIN }, Ordering::Relaxed);
        has
    }

    /// The registers that the system keeps from one switch of threads to the next. Only where
    /// OSXSAVE is said.
    fn enabled_states() -> u32 {
        let states: u32;
        // SAFETY: the instruction is there where the system has set OSXSAVE, which the caller has
        // looked at; it reads a register and touches neither memory nor flags.
        unsafe {
            core::arch::asm!("xgetbv", in("ecx") 0, out("eax") states, out("edx") _,
                options(nomem, nostack, preserves_flags));
        }
        states
    }

    /// The sum of a section's words, which are whole vectors.
    ///
    /// Words are multiplied by one and added in pairs, as signed ones, for there is an instruction
    /// for that; so each is made signed before, and its bias given back in the end.
    #[target_feature(enable = "avx2")]
    fn sum_section(section: &[u8]) -> u64 {
        let mut sums = [_mm256_setzero_si256(); CHAINS];
        let turns = section.chunks_exact(VECTOR * CHAINS);
        let last = turns.remainder();
        for turn in turns {
            for (sum, vector) in sums.iter_mut().zip(turn.chunks_exact(VECTOR)) {
                *sum = add_words(*sum, vector);
            }
        }
        for (sum, vector) in sums.iter_mut().zip(last.chunks_exact(VECTOR)) {
            *sum = add_words(*sum, vector);
        }
        let [a, b, c, d] = sums;
        let all = _mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d));
        let half = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256::<1>(all));
        let pair = _mm_cvtsi128_si64(_mm_add_epi32(half, _mm_unpackhi_epi64(half, half)));
        // The low half is a signed number of its own.
        let signed = i64::from(pair as i32) + (pair >> 32);
        let bias = i64::from(BIAS) * (section.len() / 2) as i64;
        (signed - bias) as u64
    }

    /// `sum` and the words of one vector, two to each of its 32-bit sums.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn add_words(sum: __m256i, vector: &[u8]) -> __m256i {
        debug_assert_eq!(vector.len(), VECTOR, "a vector is loaded whole");
        // SAFETY: a vector's bytes are readable from there on; no alignment is asked for.
        let words = unsafe { _mm256_loadu_si256(vector.as_ptr().cast()) };
        let signed = _mm256_xor_si256(words, _mm256_set1_epi16(BIAS));
        _mm256_add_epi32(sum, _mm256_madd_epi16(signed, _mm256_set1_epi16(1)))
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
mod quick {
    #[inline]
    pub(super) const fn sum_words(bytes: &[u8]) -> (u64, &[u8]) {
        (0, bytes)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec;
    use std::vec::Vec;

    use super::*;

    /// One word after the other; a last odd byte counts for itself.
    fn slowly(bytes: &[u8]) -> u64 {
        let word = |pair: &[u8]| u64::from(u16::from_ne_bytes([pair[0], pair[1]]));
        bytes.chunks_exact(2).map(word).sum()
    }

    #[test]
    fn what_is_summed_and_what_is_left_are_all_of_it() {
        let mut state = 1_u64;
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        let bytes: Vec<u8> = (0..70_000).map(|_| byte()).collect();
        for start in 0..33 {
            for len in (0..600).chain([1447, 1448, 8999, 65_535, 65_536, 65_568, 69_967]) {
                let piece = &bytes[start..start + len];
                let (sum, rest) = sum_words(piece);
                assert_eq!((len - rest.len()) % 2, 0, "words are summed whole");
                assert!(piece.ends_with(rest));
                assert_eq!(sum, slowly(&piece[..len - rest.len()]), "{len} bytes from {start}");
            }
        }
    }

    #[test]
    fn no_word_is_too_large_nor_too_small() {
        for byte in [0, 0x7f, 0x80, 0xff] {
            for len in [32, 64, 160, 4096, 65_536, 1 << 20] {
                let bytes = vec![byte; len];
                let (sum, rest) = sum_words(&bytes);
                assert_eq!(sum, slowly(&bytes[..len - rest.len()]), "{len} of {byte:#x}");
            }
        }
    }
}
