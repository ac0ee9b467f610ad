//! Link flags of the pause program: static, no start files, no C library, one page.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for flag in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        // One read-only, executable segment: a separate one each for headers and constants would
        // cost a page of memory a pod and most of the file.
        "-Wl,-z,noseparate-code,-z,norelro,-z,noexecstack",
        "-Wl,--build-id=none,--no-eh-frame-hdr,--gc-sections,-z,max-page-size=4096",
    ] {
        println!("cargo::rustc-link-arg-bins={flag}");
    }
}
