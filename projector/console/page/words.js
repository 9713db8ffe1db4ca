// How numbers and times are written.

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const ONE_PLACE = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const UNITS = [[86400, "d"], [3600, "h"], [60, "min"]];

export const count = (number) => WHOLE.format(number);
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
export const rate = (number) => (number > 0 && number < 10 ? ONE_PLACE : WHOLE).format(number);

/** Returns [number, unit]: seconds with one place below a minute, whole minutes, hours or days above. */
export function duration(seconds) {
  for (const [size, unit] of UNITS) if (seconds >= size) return [WHOLE.format(Math.floor(seconds / size)), unit];
  return [ONE_PLACE.format(Math.max(0, seconds)), "s"];
}

/** Returns a time in words, without parts of a second. */
export const whole = (seconds) => (seconds < 60 ? `${WHOLE.format(Math.ceil(seconds))} s` : duration(seconds).join(" "));

/** Returns how long ago in words that change no more often than they must. */
export function ago(seconds) {
  if (seconds < 10) return "just now";
  const [number, unit] = seconds < 60 ? [WHOLE.format(Math.floor(seconds / 10) * 10), "s"] : duration(seconds);
  return `${number} ${unit} ago`;
}

export const milliseconds = (seconds) =>
  seconds < 1 ? `${WHOLE.format(Math.ceil(seconds * 1000))} ms` : `${ONE_PLACE.format(seconds)} s`;
