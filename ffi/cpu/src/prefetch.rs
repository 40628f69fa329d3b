//! Asking for a cache line before it is needed.

/// Bytes in a cache line.
pub const LINE: usize = 64;

/// Starts loading the first cache line of `value`, to be read.
#[inline(always)]
pub fn prefetch_read<T: ?Sized>(value: &T) {
    line::<false>(core::ptr::from_ref(value).cast());
}

/// Starts loading the first cache line of `value`, to be written: other cores lose theirs.
#[inline(always)]
pub fn prefetch_write<T: ?Sized>(value: &T) {
    line::<true>(core::ptr::from_ref(value).cast());
}

/// Starts loading the first `lines` cache lines of `bytes`, to be read; no more than it has.
#[inline(always)]
pub fn prefetch_lines(bytes: &[u8], lines: usize) {
    for chunk in bytes.chunks(LINE).take(lines) {
        line::<false>(chunk.as_ptr());
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
fn line<const WRITE: bool>(address: *const u8) {
    use core::arch::x86_64::{_MM_HINT_ET0, _MM_HINT_T0, _mm_prefetch};
    if WRITE {
        // SAFETY: a prefetch is a hint and faults on no address; a processor without PREFETCHW
        // takes it as a no-op.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(address.cast()) }
    } else {
        // SAFETY: a prefetch is a hint and faults on no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
#[inline(always)]
fn line<const WRITE: bool>(address: *const u8) {
    if WRITE {
        // SAFETY: a prefetch is a hint and faults on no address.
        unsafe {
            core::arch::asm!("prfm pstl1keep, [{}]", in(reg) address, options(nostack, preserves_flags));
        }
    } else {
        // SAFETY: a prefetch is a hint and faults on no address.
        unsafe {
            core::arch::asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, preserves_flags));
        }
    }
}

#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
#[inline(always)]
fn line<const WRITE: bool>(_address: *const u8) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefetch_changes_nothing_and_faults_on_nothing() {
        let record = [7_u8; 256];
        prefetch_read(&record);
        prefetch_write(&record);
        prefetch_lines(&record, 9);
        prefetch_lines(&record[..0], 2);
        prefetch_read(&());
        prefetch_read(&record[250..]);
        assert_eq!(record, [7; 256]);
    }
}
