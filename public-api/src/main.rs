//! Prints the public API of a crate, an item a line, from the JSON that rustdoc writes about it.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let json = std::env::args_os().nth(1).ok_or("usage: rustls-reload-public-api RUSTDOC_JSON")?;
    // Items that every type has, or derives, say nothing about this crate.
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()?;
    for item in api.items() {
        println!("{item}");
    }
    Ok(())
}
