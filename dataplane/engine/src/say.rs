//! What the control thread tells people: lines on standard error. Workers never speak.

/// Something worth knowing.
pub(crate) fn note(text: &str) {
    eprintln!("xtcp-dataplane: {text}");
}

/// Something that should be looked at.
pub(crate) fn warn(text: &str) {
    eprintln!("xtcp-dataplane: warning: {text}");
}
