//! Packs the relocations of the program: they are 1.8 MB otherwise, all of which is read at the start and stays resident.
//!
//! The loader of glibc 2.36 and later knows the form; a program that was built against such a glibc does not run with an
//! older one anyway.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |variable: &str, value: &str| env::var(variable).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
