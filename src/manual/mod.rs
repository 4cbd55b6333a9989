#![doc = include_str!("map.md")]

#[doc = include_str!("embedding.md")]
pub mod embedding {}
#[doc = include_str!("clients.md")]
pub mod clients {}
#[doc = include_str!("binary.md")]
pub mod binary {}
#[doc = include_str!("drill.md")]
pub mod drill {}
#[doc = include_str!("recipes.md")]
pub mod recipes {}
#[doc = include_str!("peers.md")]
pub mod peers {}
#[doc = include_str!("design.md")]
pub mod design {}
#[doc = include_str!("invariants.md")]
#[doc = ""]
#[doc = include_str!("proof.md")]
pub mod invariants {}
#[doc = include_str!("client_cas.md")]
pub mod client_cas {}
#[doc = include_str!("inputs.md")]
pub mod inputs {}
#[doc = include_str!("limits.md")]
pub mod limits {}
