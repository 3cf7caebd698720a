//! What was weak in WCF Peer Channel, this project's ancestor, and is not here: one test or more for each weakness, named after it.
//! Each would fail on Peer Channel's design. Numbers are those of our list of its known weaknesses; 7 to 18 and 32 on are about
//! discovery, admission and its platform, which other tests cover.

mod catching_up;
mod forging;
mod links;
mod sdk;
mod speaking;
