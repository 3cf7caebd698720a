//! The scenarios that WCF Peer Channel, this project's ancestor, was made for, as checks that a user could run: one test or more for each,
//! named after it. Numbers are those of our list of them: C1 publish and subscribe, C2 and C3 collaboration, C4 and C7 shared work, C5
//! games, C6 content, X what crosses them.

mod content;
mod work;
