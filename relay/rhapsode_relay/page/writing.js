// How text gets onto the page: always as text, never as markup, and numbers in words that people read. Pure but for `el`.

// Controls, and what turns the direction of a line around: a sentence about the work has no use for them.
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]+/g;

/** Returns a sentence on one line, without what could make it look like another one. */
export function plain(text) {
  return String(text ?? "").replace(HIDDEN, " ").trim();
}

/** Makes an element of strings and other elements. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
}

/** Sets what an element says, if it does not say so already: a screen reader hears changes only. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function number(value) {
  return value.toLocaleString("en");
}

export function count(value, noun) {
  return `${number(value)} ${noun}${value === 1 ? "" : "s"}`;
}

export function milliseconds(ms) {
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
  return span(ms / 1000);
}

export function span(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
}

export function gib(bytes) {
  const value = bytes / 2 ** 30;
  return value < 10 ? value.toFixed(2) : value.toFixed(1);
}

export function percent(fraction) {
  return `${Math.round(fraction * 100)} %`;
}
