//! Gives the shared library its name, so that programs find the one of their version.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libxtcp.so.0");
}
