//! The manual: what is promised, how it works and why, what is limited, where it is weaker.
//!
//! [`invariants`] states each promise once, and shows which tests check it. Nothing here is code.

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
