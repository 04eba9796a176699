/** The directory remote keeps the contract, and what is special about directories. */
import { remoteConformance } from '../conformance/remote.ts';
import { directoryFixture } from '../support/remote-fixtures.ts';

remoteConformance('dir', () => directoryFixture());
