//! Compiles the protocol files. No `protoc` is needed: protox reads them.
//!
//! * `proto/shim`: daemon and shim; messages alone, in every build.
//! * `proto/cri` and `proto/berth`: gRPC, for the daemon alone. The descriptor set of the CRI is
//!   written beside the code, for the test that compares it with the table of the interface.

use prost::Message as _;
use std::error::Error;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);

    let shim = protocol_files("proto/shim")?;
    if !shim.is_empty() {
        let descriptors = protox::compile(&shim, ["proto/shim"])?;
        prost_build::Config::new().compile_fds(descriptors)?;
    }
    if std::env::var_os("CARGO_FEATURE_DAEMON").is_some() {
        for folder in ["proto/cri", "proto/berth"] {
            compile_services(folder, &out)?;
        }
    }
    Ok(())
}

/// The `.proto` files of a folder, in order; none when it does not exist.
fn protocol_files(folder: &str) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    if Path::new(folder).is_dir() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "proto") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Messages, clients and servers of a folder's files, and its descriptor set as `<folder>.bin`.
fn compile_services(folder: &str, out: &Path) -> Result<(), Box<dyn Error>> {
    let files = protocol_files(folder)?;
    if files.is_empty() {
        return Ok(());
    }
    let descriptors = protox::compile(&files, [folder])?;
    let name = Path::new(folder).file_name().ok_or("folder without a name")?;
    std::fs::write(out.join(name).with_extension("bin"), descriptors.encode_to_vec())?;
    // Maps in order, so that answers and hashes of requests are stable.
    tonic_prost_build::configure().btree_map(".").compile_fds(descriptors)?;
    Ok(())
}
