//! What definitions are refused for, and what the good ones become.

mod examples;
mod graph;
mod inputs;
mod kinds;
mod language;
mod planning;
mod properties;
mod references;
mod rendering;
mod world;
mod yaml;
