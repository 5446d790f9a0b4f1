/** The UI library, imported in one place: components as tagged templates, without a build step. */

import htm from "./vendor/htm.js";
import { Component, Fragment, h, render } from "./vendor/preact.js";

export const html = htm.bind(h);
export { Component, Fragment, render };
export { useCallback, useEffect, useLayoutEffect, useRef, useState } from "./vendor/hooks.js";
